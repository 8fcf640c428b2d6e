// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cpu/detail/memory.hpp>
#include <kvevict/cpu/detail/pieces.hpp>
#include <kvevict/cpu/select/receipt.hpp>
#include <kvevict/view/row_scores.hpp>

/// From scores to budgets, offsets, slots and receipts; everything has been checked. `plan_of(r)` is a row_plan.
///
///     rows alone           a worker takes a row
///     rows that share      a worker takes a sequence in a layer: budgets and slots of its rows, while their scores are
///                          in its caches; where there are fewer of those than workers, and they are long, each has
///                          its piece of the rows, the same at every step
///     the caller's pools   all budgets, then all slots: rows of a pool need not be neighbours
namespace kvevict::detail {

/// Slots that rows keep together if they share a budget; one row: if it shares with no other.
template <class Plan>
[[nodiscard]] offset_t slots_together(index_t first, index_t rows, const Plan& plan_of) {
  offset_t nominal = 0, length = 0;
  for (index_t r = first; r < first + rows; ++r) {
    const auto plan = plan_of(r);
    nominal += plan.nominal;
    length += plan.length;
  }
  return least(nominal, length);
}

/// Row r as its pool sees it.
template <class Plan>
[[nodiscard]] auto pool_rows(const row_scores& in, const Plan& plan_of) {
  return [&](index_t r) {
    const auto plan = plan_of(r);
    return pool_row{in.scores[r].data + plan.kept.sinks, plan.length, plan.kept, plan.nominal};
  };
}

/// Offsets and slots of all rows, from their budgets.
template <class Executor, class Plan>
void select_all(const cpu<Executor>& on, const row_scores& in, const Plan& plan_of, const selection& out,
                const select_memory& memory) {
  out.offsets[0] = 0;
  for (index_t r = 0; r < in.scores.rows; ++r) out.offsets[r + 1] = out.offsets[r] + memory.budgets[r];
  const auto length = [&](index_t r) { return in.scores.length(r); };
  run_in_pieces(on.how, in.scores.rows, length, [&](index_t r, index_t) {
    select_row(in.scores[r], memory.budgets[r], plan_of(r).kept, out.slots.data + out.offsets[r]);
  });
}

/// Rows that share with those of their sequence and layer. What they keep together is known before what each keeps.
template <class Executor, class Rule, class Plan>
void select_together(const cpu<Executor>& on, const Rule& rule, const row_scores& in, const Plan& plan_of,
                     const selection& out, const select_memory& memory) {
  const index_t heads = in.shape.kv_heads;
  out.offsets[0] = 0;
  for (index_t r = 0; r < in.scores.rows; r += heads)
    out.offsets[r + heads] = out.offsets[r] + slots_together(r, heads, plan_of);
  const auto row = pool_rows(in, plan_of);
  const auto slots_of = [&](index_t pool) {
    return in.scores.offsets[(pool + 1) * heads] - in.scores.offsets[pool * heads];
  };
  run_in_groups(on.how, in.scores.rows / heads, slots_of, [&](index_t pool, index_t worker, const auto& each) {
    const index_t first = pool * heads;
    index_t* const budgets = memory.budgets + first;
    offset_t* const offsets = out.offsets.data + first;
    const joint_threshold cut = share_pool(
        rule, heads, [&](index_t i) { return row(first + i); }, [&](index_t i) -> index_t& { return budgets[i]; },
        memory.scratch_of(worker), each);
    for (index_t i = 1; i < heads; ++i) offsets[i] = offsets[i - 1] + budgets[i - 1];
    each(heads, [&](index_t i) {
      select_row(in.scores[first + i], budgets[i], plan_of(first + i).kept, out.slots.data + offsets[i],
                 [&](const float* of, index_t count, index_t n) { return cut.of(i, of, count, n); });
    });
  });
}

template <class Executor, class Policy, class Plan>
void run_select(const cpu<Executor>& on, const Policy& policy, const row_scores& in, const Plan& plan_of,
                const selection& out, const select_memory& memory) {
  const index_t rows = in.scores.rows;
  if constexpr (!decltype(policy.rule())::joint) {
    out.offsets[0] = 0;
    for (index_t r = 0; r < rows; ++r) out.offsets[r + 1] = out.offsets[r] + plan_of(r).alone();
    on.how.run(rows, [&](index_t r, index_t) {
      const auto plan = plan_of(r);
      select_row(in.scores[r], plan.alone(), plan.kept, out.slots.data + out.offsets[r]);
    });
  } else if (in.pools.pool_of_row == nullptr) {
    select_together(on, policy.rule(), in, plan_of, out, memory);
  } else {
    share_budgets(on, policy.rule(), rows, in.pools, memory.pools, pool_rows(in, plan_of), memory.budgets,
                  [&](index_t worker) { return memory.scratch_of(worker); });
    select_all(on, in, plan_of, out, memory);
  }
  if (!out.receipts.empty()) write_receipts(on, in, plan_of, out);
}

}  // namespace kvevict::detail
