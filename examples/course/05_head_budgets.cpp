// SPDX-License-Identifier: MIT
// 5. Head budgets and Ada-KV's bound. Some heads look at few tokens, others at many. Kept weights are renormalised, so
// the output of all heads moves by at most
//     ||y - y'||_1 <= epsilon = 2 C * sum over heads of (1 - kept mass),      C = max over heads of ||V_h W_h||_inf
// For given budgets the largest weights of each head are best; among all splits of one total, the largest weights of
// all heads together. A safeguard gives up a little of that. (Here W is the identity and one query asks each kv_head.)
// Equation: theorems 3.1 and 3.2, Ada-KV (arXiv 2407.11550). Header: kvevict/budget/adaptive.hpp.
// Test: tests/policy/theorems.cpp, the two of Ada-KV, the second over all subsets; tests/budget/budget.cpp.
#include <algorithm>
#include <cmath>

#include "course.hpp"

using namespace kvevict;

template <class Rule>
void evict_by(const char* name, const Rule& rule, layer_capture& c) {
  // One query per kv_head: the first of its group, the last row.
  const offset_t head = offset_t{c.rows} * c.dim;
  const strided queries{.head = c.query_heads / c.kv_heads * head, .slot = c.dim};
  const entries last{c.queries.data() + head - c.dim, queries, c.dim};
  const inputs in{cache_of(c, c.length), query_view{last, c.kv_heads, 1}};
  const composed policy{score::attention<>{.window = 1} | score::group_mean{}, rule};
  const auto weights = scores_of(policy, in);
  evicted kept = keep(policy, in);

  double largest = 0, lost = 0, distance = 0;
  std::printf("%5d  %-16s", c.layer, name);
  for (index_t h = 0; h < c.kv_heads; ++h) {
    const std::vector<float>& a = weights[std::size_t(h)];
    const auto stay = kept.view()[h];
    const auto values = in.cache.values();
    std::vector<double> change(std::size_t(c.value_dim), 0.0);
    double mass = 0;
    for (const index_t slot : stay) mass += double(a[std::size_t(slot)]);
    for (index_t j = 0; j < c.length; ++j) {
      const bool stays = std::binary_search(stay.begin(), stay.end(), j);
      const double weight = double(a[std::size_t(j)]), moved = weight - (stays ? weight / mass : 0);
      double row = 0;
      for (index_t d = 0; d < c.value_dim; ++d) {
        const double v = double(values({0, 0, h, h}, j, d));
        row += std::abs(v);
        change[std::size_t(d)] += moved * v;
      }
      largest = std::max(largest, row);
    }
    for (const double x : change) distance += std::abs(x);
    lost += 1 - mass;
    std::printf("  %4d", int(stay.size()));
  }
  std::printf("  %11.2f%%  %6.2f  %12.3f\n", 100 * lost / c.kv_heads, 2 * largest * lost, distance);
}

int main() {
  std::printf("SmolLM2-135M, 1500 tokens, 150 slots per kv_head on average\n");
  std::printf("layer  budgets           slots per kv_head    lost mass   bound  ||y - y'||_1\n");
  const capture_file file(KVEVICT_CAPTURE);
  const budget::uniform base{slots(150)};
  for (const int layer : file.layers()) {
    layer_capture c = file.load(layer);
    evict_by("uniform", base, c);
    evict_by("joint", budget::adaptive{base, 0.0}, c);
    evict_by("mixture, 0.2", budget::adaptive{base, 0.2}, c);
    evict_by("minimum, 0.2", budget::adaptive{base, 0.2, budget::safeguard::minimum}, c);
  }
}
