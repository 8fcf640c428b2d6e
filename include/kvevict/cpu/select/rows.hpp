// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cpu/detail/memory.hpp>
#include <kvevict/cpu/detail/pieces.hpp>
#include <kvevict/cpu/select/receipt.hpp>
#include <kvevict/view/row_scores.hpp>

/// From scores to budgets, offsets, slots and receipts; everything has been checked. `plan_of(r)` is a row_plan.
///
///     rows alone           a worker takes a row: its keys, then its slots
///     rows that share      a worker takes a sequence in a layer: keys, budgets and slots of its rows, while the keys
///                          are in its caches; where there are fewer of those than workers, and they are long, each has
///                          its piece of the rows, the same at every step
///     the caller's pools   the keys of all rows, all budgets, all slots: rows of a pool need not be neighbours
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

/// Row `first + i` as its pool sees it, where `worker` holds the keys of the rows from `first` on.
template <class Plan>
[[nodiscard]] auto pool_rows(const row_scores& in, const Plan& plan_of, const select_memory& memory, index_t first = 0,
                             index_t worker = 0) {
  return [=, &in, &plan_of, &memory](index_t i) {
    const auto plan = plan_of(first + i);
    return pool_row{memory.keys_of(in.scores, first + i, first, worker), plan.length, plan.kept, plan.nominal};
  };
}

/// The keys of a row of a pool; `keys` is where its pool_row reads them.
template <class Plan>
void write_row_keys(const row_scores& in, index_t r, const Plan& plan, std::int32_t* keys) {
  write_keys(in.scores[r].data + plan.kept.sinks, plan.room(), keys);
}
template <class Executor, class Plan>
void write_all_keys(const cpu<Executor>& on, const row_scores& in, const Plan& plan_of, const select_memory& memory) {
  const auto length = [&](index_t r) { return in.scores.length(r); };
  run_in_pieces(on.how, in.scores.rows, length,
                [&](index_t r, index_t) { write_row_keys(in, r, plan_of(r), memory.keys_of(in.scores, r)); });
}

/// Offsets and slots of all rows, from their keys and budgets.
template <class Executor, class Plan>
void select_all(const cpu<Executor>& on, const row_scores& in, const Plan& plan_of, const selection& out,
                const select_memory& memory) {
  out.offsets[0] = 0;
  for (index_t r = 0; r < in.scores.rows; ++r) out.offsets[r + 1] = out.offsets[r] + memory.budgets[r];
  const auto length = [&](index_t r) { return in.scores.length(r); };
  run_in_pieces(on.how, in.scores.rows, length, [&](index_t r, index_t) {
    select_slots(in.scores.length(r), memory.budgets[r], plan_of(r).kept, out.slots.data + out.offsets[r],
                 [&] { return memory.keys_of(in.scores, r); });
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
  const auto slots_of = [&](index_t pool) {
    return in.scores.offsets[(pool + 1) * heads] - in.scores.offsets[pool * heads];
  };
  run_in_groups(on.how, in.scores.rows / heads, slots_of, [&](index_t pool, index_t worker, const auto& each) {
    const index_t first = pool * heads;
    index_t* const budgets = memory.budgets + first;
    offset_t* const offsets = out.offsets.data + first;
    const auto row = pool_rows(in, plan_of, memory, first, worker);
    const auto keys_of = [&](index_t i) { return memory.keys_of(in.scores, first + i, first, worker); };
    each(heads, [&](index_t i) { write_row_keys(in, first + i, plan_of(first + i), keys_of(i)); });
    const joint_threshold cut = share_pool(
        rule, heads, row, [&](index_t i) -> index_t& { return budgets[i]; }, memory.scratch_of(worker), each);
    for (index_t i = 1; i < heads; ++i) offsets[i] = offsets[i - 1] + budgets[i - 1];
    each(heads, [&](index_t i) {
      const pool_row r = row(i);
      select_slots(
          r.length, budgets[i], r.kept, out.slots.data + offsets[i], [&] { return r.keys; },
          [&](const std::int32_t* of, index_t count, index_t n) { return cut.of(i, of, count, n); });
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
    on.how.run(rows, [&](index_t r, index_t worker) {
      const auto plan = plan_of(r);
      select_row(in.scores[r], plan.alone(), plan.kept, out.slots.data + out.offsets[r],
                 memory.keys_of(in.scores, r, r, worker));
    });
  } else if (in.pools.pool_of_row == nullptr) {
    select_together(on, policy.rule(), in, plan_of, out, memory);
  } else {
    write_all_keys(on, in, plan_of, memory);
    share_budgets(on, policy.rule(), rows, in.pools, memory.pools, pool_rows(in, plan_of, memory), memory.budgets,
                  [&](index_t worker) { return memory.scratch_of(worker); });
    select_all(on, in, plan_of, out, memory);
  }
  if (!out.receipts.empty()) write_receipts(on, in, plan_of, out);
}

}  // namespace kvevict::detail
