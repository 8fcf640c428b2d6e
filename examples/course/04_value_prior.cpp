// SPDX-License-Identifier: MIT
// 4. The value prior. A token that is looked at adds a * v to the output: a large weight on a short value adds little.
// The first token is the extreme case, a sink: it takes attention that has nowhere to go, and its value is short.
//     score_j = gamma_j / max gamma * S_j        gamma = the average over 5 slots of ||v_j||^2
// Equation: value prior enhancement, AhaKV (arXiv 2506.03762). Header: kvevict/score/prior.hpp.
// Test: tests/score/score.cpp. Without a cache of values, pass the norms: value_norm_view.
#include <algorithm>

#include "course.hpp"

using namespace kvevict;
using with_prior = ahakv<score::step_gain, recent_rows, score::value_prior>;
using without_prior = ahakv<score::step_gain, recent_rows, score::no_prior>;

/// What slot 0 has of all scores, in percent.
double first_percent(const std::vector<float>& scores) {
  double sum = 0;
  for (const float s : scores) sum += double(s);
  return 100 * double(scores[0]) / sum;
}

int main() {
  std::printf("AhaKV on SmolLM2-135M, 1500 tokens, a fifth kept\n");
  std::printf("               prior of        median   slot 0 of all scores    other slots kept\n");
  std::printf("layer kv_head    slot 0         prior   without        with   because of the prior\n");
  const capture_file file(KVEVICT_CAPTURE);
  for (const int layer : file.layers()) {
    layer_capture c = file.load(layer);
    const inputs in{cache_of(c, c.length), queries_of(c, c.rows - 32, 32)};
    const with_prior policy{.budget = percent(20)};
    const without_prior plain{.budget = percent(20)};
    const auto scores = scores_of(policy, in), attention = scores_of(plain, in);
    evicted kept = keep(policy, in), kept_plain = keep(plain, in);
    for (index_t h = 0; h < c.kv_heads; ++h) {
      const auto row = std::size_t(h);
      std::vector<float> prior;
      for (std::size_t j = 0; j < scores[row].size(); ++j)
        if (attention[row][j] > 0) prior.push_back(scores[row][j] / attention[row][j]);
      const float first = prior[0];
      const auto middle = prior.begin() + std::ptrdiff_t(prior.size() / 2);
      std::nth_element(prior.begin(), middle, prior.end());
      const auto now = kept.view()[h], before = kept_plain.view()[h];
      const auto other = std::count_if(now.begin(), now.end(), [&](index_t slot) {
        return !std::binary_search(before.begin(), before.end(), slot);
      });
      std::printf("%5d %7d  %8.3f  %12.3f  %7.1f%%  %9.1f%%  %10d of %d\n", layer, h, double(first), double(*middle),
                  first_percent(attention[row]), first_percent(scores[row]), int(other), int(now.size()));
    }
  }
}
