// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/core/workspace.hpp>
#include <kvevict/cuda/budget/split.hpp>
#include <kvevict/cuda/select/select.hpp>

/// Joint budgets, a team of blocks per pool: the blocks share the rows of the pool and show each other how many of a
/// row's scores reach every digit; each of them then finds the same digit, with floors clamped in. A block that has one
/// row of its pool reads its scores once: the keys stay in shared memory, as far as they fit, for the selection too.
namespace kvevict::detail {

/// Memory of the device for joint budgets.
struct share_memory {
  index_t* budgets;       ///< [rows], the result
  row_threshold* limits;  ///< [rows]: the joint threshold, where the row keeps what it divides; else unknown
  index_t* reached;       ///< what the digits of all rows reach (counted_digits)
  index_t* members;       ///< [rows]: the rows of pool 0, then those of pool 1 .., where pools are the caller's own
  index_t* floors;        ///< [rows]: least evictable slots that stay
  pool_counts* counts;    ///< [rows]: what the split needs to know
  index_t* share;         ///< [rows]
  float* remainder;       ///< [rows]

  static constexpr share_memory take(carver& from, offset_t rows) {
    share_memory m{};
    m.budgets = from.take<index_t>(rows);
    m.limits = from.take<row_threshold>(rows);
    m.reached = from.take<index_t>(reached_count(rows));
    m.members = from.take<index_t>(rows);
    m.floors = from.take<index_t>(rows);
    m.counts = from.take<pool_counts>(rows);
    m.share = from.take<index_t>(rows);
    m.remainder = from.take<float>(rows);
    return m;
  }
  [[nodiscard]] KVEVICT_HOST_DEVICE static constexpr offset_t reached_count(offset_t rows) {
    return radix_rounds * rows * (radix_bins + 1);
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

/// Sums by which the threads of a block find a digit together, and the bins that lie between two of those that they
/// look at first.
inline constexpr index_t pool_parts = 512, fine_bins = 32;
/// Shared memory that `share_pool` takes beside that of a selection.
inline constexpr offset_t share_pool_bytes = pool_parts * sizeof(offset_t);

/// In how many of so many bins, the lowest first, what stays in the rows of a pool reaches the total: stay(thread, row,
/// bin). Few threads have a row and a bin of their own, the more a slice of the rows.
template <class Block, class Parts, class Stay>
[[nodiscard]] KVEVICT_HOST_DEVICE index_t bins_reaching(Block& b, index_t bins, index_t rows, offset_t total,
                                                        const digit_memory<Block>& m, const Parts& parts,
                                                        const Stay& stay) {
  constexpr int at_once = 4;  // one load at a time would wait for each
  const index_t slices = greatest(1, least(b.threads(), pool_parts) / bins);
  b.each([&](int t) {
    if (t == 0) m.found.store(t, 0, 0);
    KVEVICT_ROLLED for (index_t part = t; part < bins * slices; part += b.threads()) {
      offset_t sum = 0;
      KVEVICT_ROLLED for (offset_t first = part / bins; first < rows; first += at_once * slices) {
        KVEVICT_UNROLLED for (int k = 0; k < at_once; ++k) {
          const offset_t row = first + k * slices;  // the last row instead of none: a branch would wait
          const offset_t stays = stay(t, static_cast<index_t>(least<offset_t>(row, rows - 1)), part % bins);
          sum += row < rows ? stays : 0;
        }
      }
      parts.store(t, part, sum);
    }
  });
  b.sync();
  b.each([&](int t) {
    KVEVICT_ROLLED for (index_t bin = t; bin < bins; bin += b.threads()) {
      offset_t sum = 0;
      KVEVICT_ROLLED for (index_t slice = 0; slice < slices; ++slice) sum += parts.load(t, slice * bins + bin);
      if (sum >= total) m.found.add(t, 0, 1);
    }
  });
  b.sync();
  auto found = b.template make_local<index_t>();
  b.each([&](int t) { found[t] = m.found.load(t, 0); });
  b.sync();
  return b.uniform(found);
}

/// Final budgets of the rows of one pool, the kv_heads of one (layer, sequence) or what the caller says; and the joint
/// threshold for the rows that need not search one of their own: only a floor or a mixture keeps something else. `Task`
/// is a `select_task` or has its rule, shape, pools, `plan` and `scores_of`.
template <class Block, class Task>
KVEVICT_HOST_DEVICE void share_pool(Block& b, const Task& task, const share_memory& memory,
                                    selection_memory<Block>& shared) {
  const digit_memory<Block>& m = shared.digits;
  const auto& sums = shared.sums;
  const auto reached = b.team(memory.reached), budgets = b.team(memory.budgets);
  const auto limits = b.team(memory.limits);
  const pool_rows_on_device pool = list_pool(b, task.pools, task.shape, memory.members, m.of_warps);
  const index_t count = pool.count, first = pool.first;
  const offset_t rows = task.shape.rows();
  const auto at = [&](int round, index_t i, index_t bin) {
    return counted_digits::place(rows, round, pool.row(i), bin);
  };
  index_t* const floors = memory.floors + first;
  const auto parts = b.template shared<offset_t>(pool_parts);

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
      row_keys<Block> row(task.scores_of(pool.row(i)) + p.kept.sinks, p.room(), shared.keys);
      const auto place = [&](int of_round, index_t of_bin) { return at(of_round, i, of_bin); };
      auto candidates = b.template make_local<index_t>();
      b.each([&](int t) {
        candidates[t] =
            round == 0 ? 0 : reached.load(t, place(round - 1, bin)) - reached.load(t, place(round - 1, bin + 1));
      });
      count_digit(b, row, d, prefix, b.uniform(candidates), m);
      note_reached<radix_bins>(b, m, reached, round, bin, place);
      b.sync();
    }
    b.team_sync();
    const auto stay = [&](int t, index_t i, index_t at_bin) -> offset_t {
      return greatest(floors[i], reached.load(t, at(round, i, at_bin)));
    };
    // The more bins, the less stays above them: the digit is the highest that reaches the total, if not the lowest.
    const index_t coarse =
        greatest(1, bins_reaching(b, (1 << d.bits) / fine_bins, count, total, m, parts,
                                  [&](int t, index_t i, index_t c) { return stay(t, i, c * fine_bins); }));
    bin = (coarse - 1) * fine_bins;
    bin += greatest(1, bins_reaching(b, fine_bins, count, total, m, parts,
                                     [&](int t, index_t i, index_t c) { return stay(t, i, bin + c); })) -
           1;
    prefix |= static_cast<std::uint32_t>(bin) << d.shift;
  }

  if (b.team_rank() != 0) return;
  index_t* const share = memory.share + first;
  pool_counts* const counts = memory.counts + first;
  b.each([&](int t) {
    KVEVICT_ROLLED for (index_t i = t; i < count; i += b.threads()) {
      share[i] = 0;
      if (total <= 0) continue;
      const row_plan p = task.plan(pool.row(i));
      const index_t above = reached.load(t, at(radix_rounds - 1, i, bin + 1));
      const index_t equal = reached.load(t, at(radix_rounds - 1, i, bin)) - above;
      counts[i] = {above, equal, floors[i], evictable_budget(p), p.room()};
    }
  });
  const auto counts_of = [&](index_t i) { return counts[i]; };
  if (total > 0) split_pool(b, task.rule, count, total, counts_of, share, memory.remainder + first, m, sums);
  b.each([&](int t) {
    KVEVICT_ROLLED for (index_t i = t; i < count; i += b.threads()) {
      const index_t row = pool.row(i);
      budgets.store(t, row, task.plan(row).kept.count() + share[i]);
      row_threshold limit = row_threshold::unknown(prefix);
      if (total > 0) {
        const index_t ties = share[i] - counts[i].above;
        if (ties >= 0 && ties <= counts[i].equal) limit = {prefix, ties};
      }
      limits.store(t, row, limit);
    }
  });
}

}  // namespace kvevict::detail
