// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/budget/split.hpp>
#include <kvevict/core/workspace.hpp>
#include <kvevict/cuda/detail/digits.hpp>
#include <kvevict/cuda/select/select.hpp>

/// Joint budgets, a team of blocks per pool: the blocks share the rows of the pool and show each other how many of a
/// row's scores reach every digit; each of them then finds the same digit, with floors clamped in.
namespace kvevict::detail {

/// Memory of the device for joint budgets.
struct share_memory {
  index_t* budgets;     ///< [rows], the result
  index_t* reached;     ///< [2][rows][radix_bins + 1]: scores of a row with that digit or a higher one, by turns
  index_t* members;     ///< [rows]: the rows of pool 0, then those of pool 1 .., where pools are the caller's own
  index_t* floors;      ///< [rows]: least evictable slots that stay
  index_t* share;       ///< [rows]
  offset_t* remainder;  ///< [rows]

  static constexpr share_memory take(carver& from, offset_t rows) {
    share_memory m{};
    m.budgets = from.take<index_t>(rows);
    m.reached = from.take<index_t>(reached_count(rows));
    m.members = from.take<index_t>(rows);
    m.floors = from.take<index_t>(rows);
    m.share = from.take<index_t>(rows);
    m.remainder = from.take<offset_t>(rows);
    return m;
  }
  [[nodiscard]] KVEVICT_HOST_DEVICE static constexpr offset_t reached_count(offset_t rows) {
    return 2 * rows * (radix_bins + 1);
  }
};

/// The rows of one pool: a stretch of a list, or of all rows.
struct pool_rows_on_device {
  const index_t* members = nullptr;  ///< null: rows that follow each other
  index_t first = 0;
  index_t count = 0;

  [[nodiscard]] KVEVICT_HOST_DEVICE index_t row(index_t i) const {
    return members != nullptr ? members[first + i] : first + i;
  }
};

/// Lists the rows of the team's pool, ascending. A row whose pool is none counts to pool 0.
template <class Block, class Shared>
[[nodiscard]] KVEVICT_HOST_DEVICE pool_rows_on_device list_pool(Block& b, const budget_pool_view& pools,
                                                                const cache_shape& shape, index_t* members,
                                                                const Shared& sums) {
  const index_t pool = b.index() / b.team_size();
  if (pools.pool_of_row == nullptr) return {nullptr, pool * shape.kv_heads, shape.kv_heads};
  const auto pool_of = [&](offset_t r) {
    const index_t of = pools.pool_of_row[r];
    return of < 0 || of >= pools.pools ? 0 : of;
  };
  auto mine = b.template make_local<index_t>(), before = mine;
  b.each([&](int t) {
    mine[t] = 0;
    KVEVICT_ROLLED for (offset_t r = t; r < shape.rows(); r += b.threads()) mine[t] += pool_of(r) < pool;
  });
  const index_t first = exclusive_sums<index_t>(b, mine, before, sums);
  index_t count = 0;
  KVEVICT_ROLLED for (offset_t chunk = 0; chunk < shape.rows(); chunk += b.threads()) {
    b.each([&](int t) { mine[t] = chunk + t < shape.rows() && pool_of(chunk + t) == pool; });
    const index_t more = exclusive_sums<index_t>(b, mine, before, sums);
    b.each([&](int t) {
      if (b.team_rank() == 0 && mine[t] != 0) members[first + count + before[t]] = static_cast<index_t>(chunk + t);
    });
    count += more;
  }
  b.team_sync();
  return {members, first, count};
}

/// reached[place(round, bin)] = scores of a row with that digit or a higher one, from its histogram; behind the last
/// bin those that the digits before have passed, which is what the round before reached behind its digit `last_bin`.
template <index_t Bins, class Block, class Reached, class Place>
KVEVICT_HOST_DEVICE void note_reached(Block& b, const digit_memory<Block>& m, const Reached& reached, int round,
                                      index_t last_bin, const Place& place) {
  auto above = b.template make_local<index_t>();
  sum_above<Bins>(b, m, above);
  b.each([&](int t) {
    const index_t passed = round > 0 ? reached.load(t, place(round - 1, last_bin + 1)) : 0;
    index_t sum = passed + above[t];
    if (t == 0) reached.store(t, place(round, Bins), passed);
    each_bin<Bins>(t, b.threads(), [&](index_t bin) {
      sum += m.bins.load(t, bin);
      reached.store(t, place(round, bin), sum);
    });
  });
}

/// Final budgets of the rows of one pool, the kv_heads of one (layer, sequence) or what the caller says. `Task` is a
/// `select_task` or has its rule, shape, pools, `plan` and `scores_of`.
template <class Block, class Task>
KVEVICT_HOST_DEVICE void share_pool(Block& b, const Task& task, const share_memory& memory,
                                    const selection_memory<Block>& shared) {
  const digit_memory<Block>& m = shared.digits;
  const auto& sums = shared.sums;
  const auto reached = b.team(memory.reached), budgets = b.team(memory.budgets);
  const pool_rows_on_device pool = list_pool(b, task.pools, task.shape, memory.members, m.of_warps);
  const index_t count = pool.count, first = pool.first;
  const offset_t rows = task.shape.rows();
  const auto at = [&](int round, index_t i, index_t bin) {
    return (round % 2 * rows + first + i) * (radix_bins + 1) + bin;
  };
  index_t* const floors = memory.floors + first;

  auto free_budget = b.template make_local<offset_t>(), room = free_budget, before = free_budget;
  b.each([&](int t) {
    free_budget[t] = room[t] = 0;
    KVEVICT_ROLLED for (index_t i = t; i < count; i += b.threads()) {
      const row_plan p = task.plan(pool.row(i));
      free_budget[t] += evictable_budget(p);
      room[t] += p.room();
      if (b.team_rank() == 0) floors[i] = floor_of(task.rule, p.nominal, p.kept.count(), p.room());
    }
  });
  const offset_t wanted = exclusive_sums<offset_t>(b, free_budget, before, sums);
  const offset_t total = least(wanted, exclusive_sums<offset_t>(b, room, before, sums));

  std::uint32_t prefix = 0;
  index_t bin = 0;
  KVEVICT_ROLLED for (int round = 0; round < radix_rounds && total > 0; ++round) {
    const digit d = digit::of(round);
    for (index_t i = b.team_rank(); i < count; i += b.team_size()) {
      const row_plan p = task.plan(pool.row(i));
      count_digit(b, task.scores_of(pool.row(i)) + p.kept.sinks, p.room(), d, prefix, m);
      const auto place = [&](int of_round, index_t of_bin) { return at(of_round, i, of_bin); };
      note_reached<radix_bins>(b, m, reached, round, bin, place);
      b.sync();
    }
    b.team_sync();
    b.each([&](int t) {
      const auto stay = [&](index_t at_bin) {
        offset_t sum = 0;
        KVEVICT_ROLLED for (index_t i = 0; i < count; ++i) sum +=
            greatest(floors[i], reached.load(t, at(round, i, at_bin)));
        return sum;
      };
      // Bins of the last round that no digit has are empty; the highest that a digit can have counts as the top.
      const index_t top = (index_t{1} << d.bits) - 1;
      offset_t higher = stay(greatest(0, first_bin<radix_bins>(t, b.threads()) + 1));
      each_bin<radix_bins>(t, b.threads(), [&](index_t here) {
        const offset_t sum = stay(here);
        if (here <= top && sum >= total && (here == top || higher < total)) m.found.store(t, 0, here);
        higher = sum;
      });
    });
    b.sync();
    auto found = b.template make_local<index_t>();
    b.each([&](int t) { found[t] = m.found.load(t, 0); });
    b.sync();
    bin = b.uniform(found);
    prefix |= static_cast<std::uint32_t>(bin) << d.shift;
  }

  if (b.team_rank() != 0) return;
  b.each([&](int t) {
    if (t != 0) return;
    const auto counts = [&](index_t i) {
      const row_plan p = task.plan(pool.row(i));
      const index_t above = reached.load(t, at(radix_rounds - 1, i, bin + 1));
      return pool_counts{above, reached.load(t, at(radix_rounds - 1, i, bin)) - above, floors[i], evictable_budget(p),
                         p.room()};
    };
    index_t* const share = memory.share + first;
    for (index_t i = 0; i < count; ++i) share[i] = 0;
    if (total > 0) split_pool(task.rule, count, total, counts, share, memory.remainder + first);
    for (index_t i = 0; i < count; ++i) budgets.store(t, pool.row(i), task.plan(pool.row(i)).kept.count() + share[i]);
  });
}

}  // namespace kvevict::detail
