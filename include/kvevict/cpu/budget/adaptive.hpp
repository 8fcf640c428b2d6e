// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/budget/split.hpp>
#include <kvevict/core/workspace.hpp>
#include <kvevict/cpu/detail/threshold.hpp>
#include <kvevict/select/protect.hpp>

namespace kvevict::detail {

/// Scratch of one worker for pools of up to `rows` rows.
struct pool_scratch {
  candidates* of;
  search_memory search;
  index_t* share;
  offset_t* remainder;

  static pool_scratch take(carver& from, index_t rows) {
    candidates* const of = from.take<candidates>(rows);
    const search_memory search = search_memory::take(from, rows);
    return {of, search, from.take<index_t>(rows), from.take<offset_t>(rows)};
  }
};

/// One row of a pool: the scores of its evictable slots, what is protected, and its nominal budget, which may exceed
/// its length.
struct pool_row {
  const float* scores;
  index_t length = 0;
  protected_slots kept;
  index_t nominal = 0;

  [[nodiscard]] index_t free_budget() const { return nominal - kept.count(); }
  [[nodiscard]] index_t room() const { return length - kept.count(); }
};

/// Candidates of a row with the floor that the safeguard gives it.
template <class Base>
[[nodiscard]] candidates candidates_of(const budget::adaptive<Base>& rule, const pool_row& r) {
  return {r.scores, r.room(), floor_of(rule, r.nominal, r.kept.count(), r.room())};
}

/// Where the rows of a pool are cut. A row keeps what is above and some of what is equal, unless a floor or a mixture
/// gives it more or less.
struct joint_threshold {
  threshold joint;
  const index_t* above = nullptr;      ///< candidates of every row that are certain
  const index_t* with_ties = nullptr;  ///< and with all ties, where there are ties to take

  /// The threshold of row i, which keeps `share` of its candidates.
  [[nodiscard]] threshold of(index_t i, const float* scores, index_t count, index_t share) const {
    const bool takes_ties = joint.ties > 0 && above[i] < share && share <= with_ties[i];
    if (share == above[i] || takes_ties) return {joint.certain, share - above[i]};
    return find_threshold(scores, count, share);
  }
};

/// Final budgets of the rows of one pool: `row(i)` is a pool_row, `budget(i)` a reference to its result, `each` as for
/// find_threshold. Returns what cuts the rows, where there is anything to share; it lies in the scratch.
template <class Base, class Row, class Budget, class Each>
joint_threshold share_pool(const budget::adaptive<Base>& rule, index_t rows, const Row& row, const Budget& budget,
                           pool_scratch scratch, const Each& each) {
  joint_threshold cut;
  offset_t total = 0, room = 0;
  for (index_t i = 0; i < rows; ++i) {
    total += row(i).free_budget();
    room += row(i).room();
  }
  total = least(total, room);
  for (index_t i = 0; i < rows; ++i) scratch.share[i] = 0;
  if (total > 0) {
    for (index_t i = 0; i < rows; ++i) scratch.of[i] = candidates_of(rule, row(i));
    cut.joint = find_threshold({scratch.of, rows}, total, scratch.search, each);
    cut.above = scratch.search.high;
    cut.with_ties = scratch.search.low;
    const auto counts = [&](index_t i) {
      return pool_counts{scratch.search.high[i], scratch.search.low[i] - scratch.search.high[i], scratch.of[i].floor,
                         row(i).free_budget(), row(i).room()};
    };
    split_pool(rule, rows, total, counts, scratch.share, scratch.remainder);
  }
  for (index_t i = 0; i < rows; ++i) budget(i) = row(i).kept.count() + scratch.share[i];
  return cut;
}

}  // namespace kvevict::detail
