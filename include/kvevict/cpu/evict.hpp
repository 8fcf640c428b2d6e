// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cpu/detail/memory.hpp>
#include <kvevict/cpu/select/rows.hpp>
#include <kvevict/view/row_scores.hpp>

/// The entry points on the CPU: score, select, and both in one.
///
/// Nothing here allocates, keeps state or throws; a call that returns anything but `ok` has changed nothing. All
/// results are the same for every executor.
namespace kvevict {

namespace detail {

/// Slots that a selection needs: what every row keeps alone, or what every pool keeps together. Pools of the caller's
/// own are measured as one; what other ranks leave to this one is at most all that it has.
template <class Policy, class Plan>
[[nodiscard]] offset_t slots_needed(const Policy& policy, const cache_shape& shape, const budget_pool_view& pools,
                                    bool across_ranks, const Plan& plan_of) {
  constexpr bool joint = decltype(policy.rule())::joint;
  const auto rows = static_cast<index_t>(shape.rows());
  const index_t step = !joint ? 1 : pools.pool_of_row != nullptr ? rows : shape.kv_heads;
  offset_t slots = 0;
  for (index_t first = 0; first < rows; first += step) {
    if (joint && across_ranks)
      for (index_t r = first; r < first + step; ++r) slots += plan_of(r).length;
    else
      slots += slots_together(first, step, plan_of);
  }
  return slots;
}

}  // namespace detail

/// Slots that `selection::slots` needs for this policy on these inputs; 0 where the call will refuse their extents.
template <eviction_policy Policy, class Inputs>
[[nodiscard]] offset_t selection_capacity(const Policy& policy, const Inputs& in) {
  if (!detail::countable(in.cache)) return 0;
  const cache_shape shape = in.cache.shape();
  return detail::slots_needed(policy, shape, detail::pools_of(in), Inputs::template has<input_kind::ranks>,
                              [&](index_t r) { return detail::plan_row(policy, in, shape.row(r)); });
}

/// Bytes that `evict` needs. Depends on the shape, the lengths, the policy and the number of workers; reads no key. 0
/// where the call will refuse the policy or the extents.
template <class Executor, eviction_policy Policy, class Inputs>
[[nodiscard]] offset_t workspace_bytes(const cpu<Executor>& on, const Policy& policy, const Inputs& in) {
  if (!check(policy).ok() || !detail::countable(in.cache)) return 0;
  carver count;
  detail::evict_memory::take(count, policy, in, on.how.workers());
  return count.bytes();
}

/// Scores every row: out[row][slot], higher = keep. `out.offsets` are the caller's and must match the lengths.
template <class Executor, eviction_policy Policy, class Inputs>
status score_rows(const cpu<Executor>& on, const Policy& policy, const Inputs& in, const ragged<float>& out,
                  const workspace& memory) {
  if (const status s = check(policy); !s.ok()) return s;
  if (const status s = check_inputs(in); !s.ok()) return s;
  if (const status s = detail::check_rows(policy, in, true); !s.ok()) return s;
  const cache_shape shape = in.cache.shape();
  if (out.data == nullptr || out.offsets == nullptr)
    return {status_code::bad_pointer, "scores", "the scores or their offsets are null"};
  if (out.rows != shape.rows()) return {status_code::bad_shape, "scores", "the scores need one row per cache row"};
  for (row_id row; shape.has(row); row = shape.after(row))
    if (out.offsets[row.index + 1] - out.offsets[row.index] != in.cache.length(row))
      return {status_code::bad_shape, "scores", "the offsets of the scores do not match the lengths of the rows"};
  carver place(memory.data);
  const auto extent = detail::extent_of(in, detail::longest_row(in));
  const auto m = detail::score_memory::take(place, policy.scorer(), extent, on.how.workers());
  if (const status s = detail::check_workspace(memory, place.bytes()); !s.ok()) return s;
  detail::run_scorer(on, policy, in, out, extent, m.scratch, m.scratch_bytes, true);
  return {};
}

/// Selects by scores that are given: the policy's budget rule and protection, its scorer is not used.
template <class Executor, eviction_policy Policy>
status select(const cpu<Executor>& on, const Policy& policy, const row_scores& in, const selection& out,
              const workspace& memory) {
  if (const status s = check(policy); !s.ok()) return s;
  if (const status s = check(in.shape); !s.ok()) return s;
  if (const status s = detail::check_pools(in.shape, in.pools); !s.ok()) return s;
  if (in.scores.data == nullptr || in.scores.offsets == nullptr)
    return {status_code::bad_pointer, "scores", "the scores or their offsets are null"};
  if (in.scores.rows != in.shape.rows())
    return {status_code::bad_shape, "scores", "the scores need one row per cache row"};
  const auto plan_of = [&](index_t r) {
    return detail::plan_row(policy, in.shape, in.shape.row(r), in.scores.length(r), in.scores.length(r));
  };
  for (index_t r = 0; r < in.scores.rows; ++r) {
    const offset_t begin = in.scores.offsets[r], end = in.scores.offsets[r + 1];
    if (begin < 0 || end <= begin || end - begin > most_slots)
      return {status_code::bad_shape, "scores", "the length of a row must be at least one slot and at most most_slots"};
    const auto plan = plan_of(r);
    if (const status s = detail::check(plan); !s.ok()) return s;
  }
  const offset_t slots = detail::slots_needed(policy, in.shape, in.pools, false, plan_of);
  if (const status s = detail::check_selection(out, in.shape.rows(), slots); !s.ok()) return s;
  carver place(memory.data);
  const auto m = detail::select_memory::take(place, policy, in.shape, in.pools, on.how.workers());
  if (const status s = detail::check_workspace(memory, place.bytes()); !s.ok()) return s;
  detail::run_select(on, policy, in, plan_of, out, m);
  return {};
}

/// Bytes that `select` needs.
template <class Executor, eviction_policy Policy>
[[nodiscard]] offset_t workspace_bytes(const cpu<Executor>& on, const Policy& policy, const row_scores& in) {
  carver count;
  detail::select_memory::take(count, policy, in.shape, in.pools, on.how.workers());
  return count.bytes();
}

/// Scores and selects: which slots of each row stay (select/selection.hpp). Reads the cache, changes only `out` and
/// the workspace; a compaction then makes the memory match. With a `rank_view` among the inputs, all ranks call it
/// together (view/ranks.hpp).
template <class Executor, eviction_policy Policy, class Inputs>
status evict(const cpu<Executor>& on, const Policy& policy, const Inputs& in, const selection& out,
             const workspace& memory) {
  constexpr bool joint = decltype(policy.rule())::joint, across = Inputs::template has<input_kind::ranks>;
  const cache_shape shape = in.cache.shape();
  const budget_pool_view pools = detail::pools_of(in);
  detail::evict_memory m{};
  const status mine = [&]() -> status {
    if (const status s = check(policy); !s.ok()) return s;
    if (const status s = check_inputs(in); !s.ok()) return s;
    if (const status s = detail::check_pools(shape, pools); !s.ok()) return s;
    if constexpr (across)
      if (const status s = detail::check_ranks<Policy>(in); !s.ok()) return s;
    // Rows that share a budget compete by their scores, also those whose own nominal budget covers them.
    if (const status s = detail::check_rows(policy, in, joint); !s.ok()) return s;
    if (const status s = detail::check_selection(out, shape.rows(), selection_capacity(policy, in)); !s.ok()) return s;
    carver place(memory.data);
    m = detail::evict_memory::take(place, policy, in, on.how.workers());
    return detail::check_workspace(memory, place.bytes());
  }();
  if constexpr (across) {
    if (const status s = detail::agree(in.template get<input_kind::ranks>(), mine); !s.ok()) return s;
  } else {
    if (!mine.ok()) return mine;
  }

  const auto rows = static_cast<index_t>(shape.rows());
  m.offsets[0] = 0;
  for (row_id row; shape.has(row); row = shape.after(row))
    m.offsets[row.index + 1] = m.offsets[row.index] + in.cache.length(row);
  detail::run_scorer(on, policy, in, ragged<float>{m.scores, m.offsets, rows},
                     detail::extent_of(in, detail::longest_row(in)), m.score.scratch, m.score.scratch_bytes, joint);
  const row_scores scored{shape, {m.scores, m.offsets, rows}, pools, detail::entry_bytes(in.cache)};
  const auto plan_of = [&](index_t r) { return detail::plan_row(policy, in, shape.row(r)); };
  if constexpr (across && joint) {
    if (!detail::share_across(on, policy.rule(), shape, in.template get<input_kind::ranks>(),
                              detail::pool_rows(scored, plan_of), m.select.budgets, m.ranks))
      return {status_code::bad_input, "ranks", "an all-reduce failed"};
    detail::select_all(on, scored, plan_of, out, m.select);
  } else {
    detail::run_select(on, policy, scored, plan_of, out, m.select);
  }
  return {};
}

}  // namespace kvevict
