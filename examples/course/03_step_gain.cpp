// SPDX-License-Identifier: MIT
// 3. The step gain, and when its assumption fails. AhaKV scores with a softmax whose logits are multiplied by a gain,
// so that a row over i tokens has the entropy that k kept tokens can carry, ln k:
//     gain(i) = sqrt(2 ln(i / k))        because for q, k ~ N(0, I), E[H] = ln i - gain^2 / 2
// That supposes logits of standard deviation 1. SmolLM2-135M has 2.5 in a row on average and 3.8 to 3.9 in a layer,
// heads taken together (tests/llama/model.cpp): the plain softmax is sharper than ln k already, and the gain sharpens
// it further.
// Equation: lambda_i = sqrt(2 ln(i / k) / d), AhaKV (arXiv 2506.03762), step gain softmax.
// Header: kvevict/score/gain.hpp. Test: tests/policy/theorems.cpp, "the step gain brings the entropy of a row to ln k".
#include <cmath>

#include "course.hpp"

using namespace kvevict;

struct row_means {
  double spread = 0, entropy = 0;  ///< of the logits; of the weights, in nats
};

/// Over all rows, whose scores are the weights of one query: ln a = logit - constant, so they have the same spread.
template <class Gain, class Inputs>
row_means measure(const Gain& gain, index_t budget, const Inputs& in) {
  const score::attention<Gain> one_row{.window = 1, .gain = gain};
  const auto rows = scores_of(composed{one_row | score::group_mean{}, budget::uniform{slots(budget)}}, in);
  row_means mean;
  for (const auto& row : rows) {
    double sum = 0, squares = 0, entropy = 0, count = double(row.size());
    for (const float a : row) {
      const double log = std::log(std::max(double(a), 1e-30));
      sum += log;
      squares += log * log;
      entropy -= double(a) * log;
    }
    mean.entropy += entropy / double(rows.size());
    mean.spread += std::sqrt(squares / count - sum * sum / count / count) / double(rows.size());
  }
  return mean;
}

void simulate() {
  constexpr index_t k = 128, dims = 64, rows = 96;
  std::printf("normal keys, k = %d: entropy in nats, to be ln k = %.2f\n", k, std::log(double(k)));
  std::printf("i / k    gain    spread   plain    step    spread   plain    step\n");
  for (index_t i = 2 * k; i <= 32 * k; i *= 2) {
    std::printf("%5d  %6.2f", i / k, double(score::step_gain{}(i, k)));
    for (const float spread : {1.0F, 3.9F}) {
      const auto keys = normals(std::size_t(i) * dims, 3), queries = normals(std::size_t(rows) * dims, 4, spread);
      const key_cache view{cache_shape{1, rows, 1}, i, entries{keys.data(), strided{.slot = dims}, dims}};
      const inputs in{view, query_view{entries{queries.data(), hnd(rows, 1, 1, dims), dims}, 1, 1}};
      const row_means plain = measure(score::plain_gain{}, k, in), step = measure(score::step_gain{}, k, in);
      std::printf("  %8.1f  %6.2f  %6.2f", plain.spread, plain.entropy, step.entropy);
    }
    std::printf("\n");
  }
}

int main() {
  simulate();
  std::printf("\nSmolLM2-135M, the last 32 rows of 1500, each query_head by itself\n");
  std::printf("layer  spread   plain    step at 50 %%, 25 %%, 10 %% kept: ln k =");
  for (const index_t k : {750, 375, 150}) std::printf(" %.2f", std::log(double(k)));
  std::printf("\n");
  const capture_file file(KVEVICT_CAPTURE);
  for (const int layer : file.layers()) {
    const layer_capture c = file.load(layer);
    const index_t group = c.query_heads / c.kv_heads, row = c.dim, head = c.rows * c.dim, first = c.rows - 32;
    std::vector<index_t> lengths;  // a row of the window is a sequence, a member of the group a layer: strides of 0
    for (index_t r = 0; r < group * 32 * c.kv_heads; ++r) lengths.push_back(first + 1 + r / c.kv_heads % 32);
    const strided keys{.head = head, .slot = row}, queries{.layer = head, .seq = row, .head = group * head};
    const key_cache view{cache_shape{group, 32, c.kv_heads}, lengths.data(), entries{c.keys.data(), keys, c.dim}};
    const inputs in{view, query_view{entries{c.queries.data() + first * row, queries, c.dim}, c.kv_heads, 1}};
    const row_means plain = measure(score::plain_gain{}, 1, in);
    std::printf("%5d  %6.1f  %6.2f", layer, plain.spread, plain.entropy);
    for (const index_t k : {750, 375, 150}) std::printf("  %6.2f", measure(score::step_gain{}, k, in).entropy);
    std::printf("\n");
  }
}
