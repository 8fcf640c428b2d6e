// SPDX-License-Identifier: MIT
// 9. Your own policy in 20 lines. A policy is a plain struct that says how to score, how much each row keeps and what
// is protected; scorers compose from parts. This one keeps what a window attends to and whose key is unlike the others.
// It then serves prompt and decode, batches, paged memory and joint head budgets like every policy of the library.
// Equation: s_j = mean attention of a window, SnapKV (arXiv 2404.14469), times (1 - cos(k_j, mean key))^2, KeyDiff
// (arXiv 2504.15364). Headers: kvevict/policy/policy.hpp, kvevict/score/combine.hpp. Test: tests/policy/spec.cpp.
#include <algorithm>
#include <cstdio>

#include "course.hpp"

using namespace kvevict;

// ---- the policy ----
struct watched_and_unlike {
  static constexpr const char* name = "watched_and_unlike";
  amount budget = slots(256);
  index_t window = 32;

  friend constexpr bool operator==(const watched_and_unlike&, const watched_and_unlike&) = default;
  [[nodiscard]] auto scorer() const {
    const auto watched = score::observation_window(window) | score::group_mean{} | score::avg_pool{.width = 5};
    const auto unlike = score::key_diff{} | score::power{.offset = 1, .exponent = 2};
    return score::product{watched, unlike};
  }
  [[nodiscard]] auto rule() const { return budget::uniform{budget}; }
  [[nodiscard]] protect protection() const { return {.sinks = 4, .recent = slots(window)}; }
};
static_assert(eviction_policy<watched_and_unlike> && eviction_policy<adakv<watched_and_unlike>>);
// ---- end of the policy ----

/// Share of the slots of `a` that `b` has too.
int common_percent(evicted a, evicted b) {
  int common = 0;
  for (index_t row = 0; row < a.view().rows(); ++row) {
    const auto left = a.view()[row], right = b.view()[row];
    for (const index_t slot : left) common += std::binary_search(right.begin(), right.end(), slot) ? 1 : 0;
  }
  return int(100.0 * common / double(a.view().offsets[a.view().rows()]) + 0.5);
}

int main() {
  const capture_file file(KVEVICT_CAPTURE);
  const watched_and_unlike mine{.budget = percent(20)};
  std::printf("slots in common with                        slots per head\n");
  std::printf("layer   snapkv   keydiff   random           alone   with adakv\n");
  for (const int layer : file.layers()) {
    layer_capture c = file.load(layer);
    const inputs in{cache_of(c, c.length), queries_of(c, c.rows - 32, 32)};
    const evicted kept = keep(mine, in);
    const evicted shared = keep(adakv{mine}, in);
    std::printf("%5d  %6d%%  %7d%%  %6d%%           %5d  ", layer,
                common_percent(kept, keep(snapkv<>{.budget = mine.budget}, in)),
                common_percent(kept, keep(keydiff{.budget = mine.budget}, in)),
                common_percent(kept, keep(kvevict::random{.budget = mine.budget}, in)), int(kept.offsets[1]));
    for (std::size_t h = 0; h < 3; ++h) std::printf("  %4d", int(shared.offsets[h + 1] - shared.offsets[h]));
    std::printf("\n");
  }
}
