// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/budget/adaptive.hpp>
#include <kvevict/core/workspace.hpp>
#include <kvevict/cpu/detail/threshold.hpp>
#include <kvevict/select/protect.hpp>

namespace kvevict::detail {

/// Scratch of one worker for pools of up to `rows` rows.
struct pool_scratch {
  candidates* of;
  search_counts counts;
  index_t* share;
  offset_t* remainder;

  static pool_scratch take(carver& from, index_t rows) {
    candidates* const of = from.take<candidates>(rows);
    const search_counts counts = search_counts::take(from, rows);
    return {of, counts, from.take<index_t>(rows), from.take<offset_t>(rows)};
  }
};

/// One row of a pool: the keys of its evictable slots, what is protected, and its nominal budget, which may exceed its
/// length.
struct pool_row {
  const std::int32_t* keys;
  index_t length = 0;
  protected_slots kept;
  index_t nominal = 0;

  [[nodiscard]] index_t free_budget() const { return nominal - kept.count(); }
  [[nodiscard]] index_t room() const { return length - kept.count(); }
};

/// What the split of a pool needs to know of a row: counts only, so that they can come from anywhere.
struct pool_counts {
  index_t above = 0;  ///< evictable scores above the joint threshold
  index_t equal = 0;  ///< and equal to it
  index_t floor = 0;  ///< least of them that stay
  index_t free_budget = 0;
  index_t room = 0;
};

/// Candidates of a row with the floor that the safeguard gives it.
template <class Base>
[[nodiscard]] candidates candidates_of(const budget::adaptive<Base>& rule, const pool_row& r) {
  const auto floor = static_cast<index_t>(static_cast<offset_t>(millionths(rule.floor)) * r.nominal / 1000000);
  return {r.keys, r.room(),
          rule.kind == budget::safeguard::minimum ? least(greatest(0, floor - r.kept.count()), r.room()) : 0};
}

/// Splits the free budget `total` of a pool (budget/adaptive.hpp): share[i] evictable slots for row i.
template <class Base, class Counts>
void split_pool(const budget::adaptive<Base>& rule, index_t rows, offset_t total, const Counts& of, index_t* share,
                offset_t* remainder) {
  offset_t ties = total;
  for (index_t i = 0; i < rows; ++i) ties -= greatest(of(i).floor, of(i).above);
  for (index_t i = 0; i < rows; ++i) {  // rows in order: equal scores go to the smaller row
    const pool_counts c = of(i);
    const index_t certain = greatest(c.floor, c.above);
    const offset_t extra = least(ties, greatest<offset_t>(0, c.above + c.equal - certain));
    ties -= extra;
    share[i] = certain + static_cast<index_t>(extra);
  }
  if (rule.kind != budget::safeguard::mixture) return;

  offset_t left = total;
  for (index_t i = 0; i < rows; ++i) {
    const offset_t mixed = budget::mixture_millionths(share[i], of(i).free_budget, millionths(rule.floor));
    const offset_t whole = least<offset_t>(mixed / 1000000, of(i).room);
    share[i] = static_cast<index_t>(whole);
    remainder[i] = mixed % 1000000;
    left -= whole;
  }
  for (; left > 0; --left) {  // largest remainder first, equal ones to the smaller row; a full row gets no more
    index_t largest = -1;
    for (index_t i = 0; i < rows; ++i)
      if (share[i] < of(i).room && (largest < 0 || remainder[i] > remainder[largest])) largest = i;
    ++share[largest];
    remainder[largest] -= 1000000;
  }
}

/// Final budgets of the rows of one pool: `row(i)` is a pool_row, `budget(i)` a reference to its result, `each` as for
/// find_threshold.
template <class Base, class Row, class Budget, class Each>
void share_pool(const budget::adaptive<Base>& rule, index_t rows, const Row& row, const Budget& budget,
                pool_scratch scratch, const Each& each) {
  offset_t total = 0, room = 0;
  for (index_t i = 0; i < rows; ++i) {
    total += row(i).free_budget();
    room += row(i).room();
  }
  total = least(total, room);
  for (index_t i = 0; i < rows; ++i) scratch.share[i] = 0;
  if (total > 0) {
    for (index_t i = 0; i < rows; ++i) scratch.of[i] = candidates_of(rule, row(i));
    find_threshold({scratch.of, rows}, total, scratch.counts, each);
    const auto counts = [&](index_t i) {
      return pool_counts{scratch.counts.high[i], scratch.counts.low[i] - scratch.counts.high[i], scratch.of[i].floor,
                         row(i).free_budget(), row(i).room()};
    };
    split_pool(rule, rows, total, counts, scratch.share, scratch.remainder);
  }
  for (index_t i = 0; i < rows; ++i) budget(i) = row(i).kept.count() + scratch.share[i];
}

}  // namespace kvevict::detail
