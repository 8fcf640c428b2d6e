// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/core/ragged.hpp>
#include <kvevict/cpu/backend.hpp>
#include <kvevict/cpu/score/attention.hpp>
#include <kvevict/cpu/score/combine.hpp>
#include <kvevict/cpu/score/group.hpp>
#include <kvevict/cpu/score/keys.hpp>
#include <kvevict/cpu/score/pool.hpp>
#include <kvevict/cpu/score/position.hpp>
#include <kvevict/cpu/score/prior.hpp>
#include <kvevict/policy/plan.hpp>
#include <kvevict/policy/policy.hpp>
#include <kvevict/view/check.hpp>
#include <limits>

/// Runs a scorer over all rows.
namespace kvevict::detail {

template <class Policy>
[[nodiscard]] row_plan plan_row(const Policy& policy, const cache_shape& shape, const row_id& row, index_t length,
                                index_t budget_length) {
  return plan_row(policy.rule(), policy.protection(), shape, row, length, budget_length);
}

template <class Policy, class Inputs>
[[nodiscard]] row_plan plan_row(const Policy& policy, const Inputs& in, const row_id& row) {
  const index_t length = in.cache.length(row);
  return plan_row(policy, in.cache.shape(), row, length, budget_length(in, row, length));
}

/// Whether a row's budget is one that can be met.
[[nodiscard]] inline status check(const row_plan& plan) {
  if (plan.whole) return {};
  if (plan.nominal < 1) return {status_code::bad_budget, "budget", "the budget of a row must be at least one slot"};
  if (plan.nominal < plan.kept.count())
    return {status_code::bad_budget, "budget",
            "the budget of a row is smaller than its protected slots (sinks + recent, which it includes)",
            plan.kept.count()};
  return {};
}

template <class Policy, class Inputs>
[[nodiscard]] score::row_context context_of(const row_plan& plan, const row_id& row, const Inputs& in) {
  return {row,           plan.length,     tokens_seen(in, row, plan.length),
          plan.nominal,  plan.kept.sinks, plan.kept.recent,
          group_size(in)};
}

template <class Inputs>
[[nodiscard]] scratch_extent extent_of(const Inputs& in, index_t longest) {
  scratch_extent extent{.length = longest,
                        .group_size = group_size(in),
                        .key_dims = in.cache.keys().dims(),
                        .log_sum_exp = Inputs::template has<input_kind::log_sum_exp>};
  if constexpr (cache_with_values<decltype(in.cache)>) extent.value_dims = in.cache.values().dims();
  return extent;
}

template <class Inputs>
[[nodiscard]] index_t longest_row(const Inputs& in) {
  return longest_row_of(in.cache);
}

template <class Policy, class Inputs>
[[nodiscard]] status check_rows(const Policy& policy, const Inputs& in, bool score_whole_rows) {
  const cache_shape shape = in.cache.shape();
  const auto scorer = policy.scorer();
  for (row_id row; shape.has(row); row = shape.after(row)) {
    const row_plan plan = plan_row(policy, in, row);
    if (const status s = check(plan); !s.ok()) return s;
    if (plan.whole && !score_whole_rows) continue;
    if constexpr (Inputs::template has<input_kind::positions>) {
      const status s = in.template get<input_kind::positions>().check(shape, row, in.cache.length(row));
      if (!s.ok()) return s;
    }
    const status s = kernel_for<decltype(scorer)>::check(scorer, in, context_of<Policy>(plan, row, in));
    if (!s.ok()) return s;
    if constexpr (score::layer_wide<std::remove_cvref_t<decltype(scorer)>>)
      if (row.kv_head > 0 && in.cache.length(row) != in.cache.length(shape.row(row.index - 1)))
        return {status_code::bad_shape, "length",
                "score::layer_mean needs all kv_heads of a sequence to have the same length"};
  }
  return {};
}

template <class Executor, class Policy, class Inputs>
void run_scorer(const cpu<Executor>& on, const Policy& policy, const Inputs& in, const ragged<float>& out,
                const scratch_extent& extent, std::byte* scratch, offset_t scratch_bytes, bool score_whole_rows) {
  const auto scorer = policy.scorer();
  const cache_shape shape = in.cache.shape();
  on.how.run(out.rows, [&](index_t r, index_t worker) {
    const row_id row = shape.row(r);
    const row_plan plan = plan_row(policy, in, row);
    if (plan.whole && !score_whole_rows) return;
    kernel_for<decltype(scorer)>::run(scorer, in, context_of<Policy>(plan, row, in), extent, out[r].data,
                                      carver(scratch + worker * scratch_bytes));
  });
  if constexpr (score::layer_wide<std::remove_cvref_t<decltype(scorer)>>) {
    on.how.run(shape.layers * shape.seqs, [&](index_t pool, index_t) {
      const index_t first = pool * shape.kv_heads;
      auto mean = array(out[first].data, out.length(first));
      for (index_t h = 1; h < shape.kv_heads; ++h) mean += array(out[first + h].data, out.length(first));
      mean /= static_cast<float>(shape.kv_heads);
      for (index_t h = 1; h < shape.kv_heads; ++h) array(out[first + h].data, out.length(first)) = mean;
    });
  }
}

}  // namespace kvevict::detail
