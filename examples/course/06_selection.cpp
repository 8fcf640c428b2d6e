// SPDX-License-Identifier: MIT
// 6. Selection. Scores become slots: the protected slots, then the highest scores until the budget is full, ascending.
// Nothing may be left to chance: equal scores are common (pooling makes them), so the smaller slot stays; NaN is the
// lowest score; -0 equals +0. Then the same scores give the same slots on every backend.
// Equation: I = top-k of the scores for k = B; of all sets of B slots it minimises the bound of Ada-KV
// (arXiv 2407.11550). Header: kvevict/select/selection.hpp. Tests: tests/select/select.cpp, tests/policy/theorems.cpp.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <utility>

#include "course.hpp"

using namespace kvevict;

/// A policy that only says how many stay and which are protected: the scores are ours.
struct budget_only {
  [[nodiscard]] static score::recency scorer() { return {}; }
  [[nodiscard]] static budget::uniform rule() { return {slots(6)}; }
  [[nodiscard]] static protect protection() { return {.sinks = 1, .recent = slots(2)}; }
};

evicted select_slots(const std::vector<float>& scores) {
  const offset_t offsets[] = {0, static_cast<offset_t>(scores.size())};
  const row_scores in{cache_shape{1, 1, 1}, {scores.data(), offsets, 1}};
  evicted kept(6, 1);
  std::vector<cache_line> scratch(cache_lines(workspace_bytes(cpu{}, budget_only{}, in)));
  require(select(cpu{}, budget_only{}, in, kept.view(), workspace_of(scratch)));
  return kept;
}

void small_rows() {
  const float nan = std::nanf("");
  const std::vector<std::pair<const char*, std::vector<float>>> rows = {
      {"distinct scores", {0, 7, 3, 9, 1, 8, 2, 0, 0, 0}},
      {"ties", {0, 5, 5, 5, 5, 5, 9, 0, 0, 0}},
      {"a NaN", {0, nan, 3, nan, 1, nan, 2, nan, 0, 0}},
      {"-0 and +0", {0, -0.0F, 0, -0.0F, 0, 0, 0, 0, 0, 0}}};
  std::printf("10 slots, budget 6: 1 sink, 2 recent (P), 3 by score (*)");
  for (const auto& [name, scores] : rows) {
    evicted kept = select_slots(scores);
    std::printf("\n%-16s", name);
    for (index_t slot = 0, next = 0; slot < 10; ++slot) {
      const bool stays = kept.slots[std::size_t(next)] == slot;
      next += stays && next < 5 ? 1 : 0;
      std::printf(" %3.0f%c", scores[std::size_t(slot)], !stays ? ' ' : slot < 1 || slot > 7 ? 'P' : '*');
    }
  }
}

/// How many slots share the score at which the selection ends, in a real capture.
template <class Policy>
void threshold_ties(const char* name, const Policy& policy, layer_capture& c) {
  const inputs in{cache_of(c, c.length), queries_of(c, c.rows - 32, 32)};
  const auto scores = scores_of(policy, in);
  evicted kept = keep(policy, in);
  std::printf("layer %2d, %-26s", c.layer, name);
  for (index_t h = 0; h < c.kv_heads; ++h) {
    const float* row = scores[std::size_t(h)].data();
    float lowest = row[kept.view()[h][0]];
    for (const index_t slot : kept.view()[h]) lowest = slot < c.length - 32 ? std::fmin(lowest, row[slot]) : lowest;
    std::printf("  %2d", int(std::count(row, row + c.length - 32, lowest)));
  }
  std::printf("\n");
}

int main() {
  small_rows();
  std::printf("\n\n%d slots, budget 300: slots of each kv_head that have the lowest retained score\n", 1500);
  for (const int layer : {1, 10, 19, 28}) {
    layer_capture c = capture_file(KVEVICT_CAPTURE).load(layer);
    threshold_ties("SnapKV without pooling", snapkv<score::no_pool>{.budget = slots(300)}, c);
    threshold_ties("SnapKV, maximum of 7 slots", snapkv<>{.budget = slots(300)}, c);
  }
}
