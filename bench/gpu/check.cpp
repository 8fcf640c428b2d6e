// SPDX-License-Identifier: MIT
#include "check.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <kvevict/cpu.hpp>
#include <kvevict/cpu/openmp.hpp>

namespace measured {

using namespace kvevict;

namespace {

constexpr double bound = 4e-5;  // tensor cores cut bits of sums off

template <class Policy, class Inputs>
bool right_scores(const Policy& policy, const Inputs& in, const scored_row& row) {
  const cpu on{openmp{}};
  std::vector<float> scores(row.scores.size());
  const std::vector<offset_t> offsets{0, row.keys};
  std::vector<cache_line> scratch(cache_lines(workspace_bytes(on, policy, in)));
  const status s = score_rows(on, policy, in, {scores.data(), offsets.data(), 1}, workspace_of(scratch));
  if (!s.ok()) {
    std::fprintf(stderr, ": the CPU refused: %s: %s", s.argument, s.sentence);
    return false;
  }
  double largest = 0;
  for (const float x : scores) largest = std::max(largest, std::abs(double(x)));
  for (std::size_t j = 0; j < scores.size(); ++j)
    if (!(std::abs(double(scores[j]) - double(row.scores[j])) <= bound * largest)) {
      std::fprintf(stderr, ": slot %zu has the score %g, the CPU gives %g; the largest of its row is %g", j,
                   double(row.scores[j]), double(scores[j]), largest);
      return false;
    }
  return true;
}

/// f(inputs of a row, and what else is passed), as the device had them.
auto cache_of(const scored_row& r) {
  const strided order = hnd(1, 1, r.keys, dims);
  return cache{cache_shape{}, r.keys, entries{r.key.data(), order, dims},
               entries{r.value.empty() ? r.key.data() : r.value.data(), order, dims}};
}
auto queries_of(const scored_row& r) {
  return query_view{entries{r.query.data(), hnd(1, group, r.query_rows, dims), dims}, group, r.query_rows};
}
auto lse_of(const scored_row& r) { return log_sum_exp_view{r.lse.data(), hnd(1, group, r.query_rows, 1)}; }

template <class Policy>
bool right_slots(const Policy& policy, const selection_run& run, index_t layers, index_t keys) {
  const cache_shape shape{.layers = layers, .kv_heads = kv_heads};
  const auto rows = static_cast<index_t>(shape.rows());
  std::vector<offset_t> score_offsets, offsets(std::size_t(rows) + 1);
  for (index_t r = 0; r <= rows; ++r) score_offsets.push_back(offset_t{r} * keys);
  const row_scores scores{shape, {run.scores.data(), score_offsets.data(), rows}};
  std::vector<index_t> slots(run.slots.size());
  const cpu on{openmp{}};
  std::vector<cache_line> scratch(cache_lines(workspace_bytes(on, policy, scores)));
  const status s = select(on, policy, scores, selection{slots, offsets}, workspace_of(scratch));
  if (!s.ok()) std::fprintf(stderr, ": the CPU refused: %s: %s", s.argument, s.sentence);
  return s.ok() && offsets == run.offsets && slots == run.slots;
}

}  // namespace

bool right_window(window_kind kind, const scored_row& row) {
  const amount budget = slots(kept);
  switch (kind) {
    case window_kind::keys:
      return right_scores(snapkv<>{.budget = budget, .window = window}, inputs{cache_of(row), queries_of(row)}, row);
    case window_kind::keys_lse:
    case window_kind::float_keys_lse:
      return right_scores(snapkv<>{.budget = budget, .window = window},
                          inputs{cache_of(row), queries_of(row), lse_of(row)}, row);
    case window_kind::norms_lse:
      return right_scores(ahakv<score::plain_gain>{.budget = budget, .window = window},
                          inputs{cache_of(row), queries_of(row), lse_of(row),
                                 value_norm_view{row.norms.data(), hnd(1, 1, row.keys, 1)}},
                          row);
    case window_kind::values_lse:
      return right_scores(ahakv<score::plain_gain>{.budget = budget, .window = window},
                          inputs{cache_of(row), queries_of(row), lse_of(row)}, row);
    case window_kind::step_gain_values:
      return right_scores(ahakv<>{.budget = budget, .window = window}, inputs{cache_of(row), queries_of(row)}, row);
  }
  return false;
}

bool right_accumulated(const scored_row& row) {
  return right_scores(h2o{.budget = slots(kept)}, inputs{cache_of(row), queries_of(row), lse_of(row)}, row);
}

bool right_selection(const selection_run& run, index_t layers, index_t keys, bool joint) {
  const snapkv<> each{.budget = slots(kept), .recent = 0};
  return joint ? right_slots(adakv{each}, run, layers, keys) : right_slots(each, run, layers, keys);
}

bool right_whole(const selection_run& run, index_t layers, index_t keys) {
  return right_slots(adakv{ahakv<score::plain_gain>{.budget = slots(kept), .window = window}}, run, layers, keys);
}

}  // namespace measured
