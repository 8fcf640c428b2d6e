// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/budget/share.hpp>

/// Joint budgets and the selection by them, in one kernel: a team shares the budget of its pool, and then each of its
/// blocks writes rows of the pool.
///
/// Where a row's slots begin depends on the budgets of all rows before it, which other teams find at the same time. But
/// a pool keeps exactly the sum of its nominal budgets, or everything (budget/adaptive.hpp): lengths alone say how
/// much. So where pools follow each other, as the kv_heads of a layer do, every team counts what the pools before it
/// keep, and no team waits for another, in whatever order and however many at a time the device runs them.
///
/// Two cases take two kernels, budgets first (`alone`), then a block per row:
///
///     pools of the caller's own   Their rows lie among those of other pools, so a row's offset depends on how these
///                                 were split. Inside one kernel teams would have to wait for each other, by flags in
///                                 memory that somebody has cleared; but a workspace holds anything when a call comes,
///                                 and to clear it takes a launch as well.
///     devices without clusters    One block would write all rows of a pool, one after the other: with 8 kv_heads an
///                                 eighth of the blocks do eight times the work, which costs far more than a launch.
namespace kvevict::detail {

/// Slots that the kv_heads of one (layer, sequence) retain together.
template <class Rule>
[[nodiscard]] KVEVICT_HOST_DEVICE offset_t retained_of_pool(const select_task<Rule>& task, index_t pool) {
  offset_t kept = 0, free = 0, room = 0;
  KVEVICT_ROLLED for (index_t head = 0; head < task.shape.kv_heads; ++head) {
    const row_plan p = task.plan(pool * task.shape.kv_heads + head);
    kept += p.kept.count();
    free += evictable_budget(p);
    room += p.room();
  }
  return kept + least(free, room);
}

/// The kernel. `alone`: only the budgets.
template <class Block, class Rule>
KVEVICT_HOST_DEVICE void select_pool(Block& b, const select_task<Rule>& task, const share_memory& memory, bool alone) {
  auto shared = selection_memory<Block>::take(b, task.key_fours, most_listed_keys);
  share_pool(b, task, memory, shared);
  if (alone) return;
  const auto budgets = b.team(memory.budgets);
  const auto limits = b.team(memory.limits);
  const index_t pool = b.index() / b.team_size(), heads = task.shape.kv_heads;
  auto own = b.template make_local<offset_t>(), before = own;
  auto budget = b.template make_local<index_t>();
  auto limit = b.template make_local<row_threshold>();
  b.each([&](int t) {
    own[t] = 0;
    KVEVICT_ROLLED for (index_t p = t; p < pool; p += b.threads()) own[t] += retained_of_pool(task, p);
  });
  const offset_t of_pools = exclusive_sums<offset_t>(b, own, before, shared.sums);
  b.team_sync();
  KVEVICT_ROLLED for (index_t head = b.team_rank(); head < heads; head += b.team_size()) {
    const index_t row = pool * heads + head;
    b.each([&](int t) {
      own[t] = 0;
      KVEVICT_ROLLED for (index_t r = t; r < head; r += b.threads()) own[t] += budgets.load(t, pool * heads + r);
      budget[t] = budgets.load(t, row);
      limit[t] = limits.load(t, row);
    });
    const offset_t of_heads = exclusive_sums<offset_t>(b, own, before, shared.sums);
    write_selection(b, task, row, of_pools + of_heads, b.uniform(budget), b.uniform(limit), shared);
    b.sync();
  }
}

}  // namespace kvevict::detail
