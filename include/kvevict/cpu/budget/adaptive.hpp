// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/budget/adaptive.hpp>
#include <kvevict/core/workspace.hpp>
#include <kvevict/cpu/detail/threshold.hpp>
#include <kvevict/select/protect.hpp>

namespace kvevict::detail {

/// Scratch of one worker for pools of up to `rows` rows.
struct pool_scratch {
  search_scratch search;
  index_t* share;
  offset_t* remainder;

  static pool_scratch take(carver& from, index_t rows, index_t longest) {
    const search_scratch search = search_scratch::take(from, rows, longest);
    return {search, from.take<index_t>(rows), from.take<offset_t>(rows)};
  }
};

/// One row of a pool: its scores, what is protected, and its nominal budget, which may exceed its length.
struct pool_row {
  span<const float> scores;
  protected_slots kept;
  index_t nominal = 0;

  [[nodiscard]] index_t free_budget() const { return nominal - kept.count(); }
  [[nodiscard]] index_t room() const { return static_cast<index_t>(scores.size()) - kept.count(); }
  [[nodiscard]] candidates evictable(index_t floor) const {
    return {scores.data + kept.sinks, room(), least(floor, room())};
  }
};

/// Final budgets of the rows of one pool (budget/adaptive.hpp): `row(i)` is a pool_row, `budget(i)` a reference to
/// its result.
template <class Base, class Row, class Budget>
void share_pool(const budget::adaptive<Base>& rule, index_t rows, const Row& row, const Budget& budget,
                const pool_scratch& scratch) {
  const std::int32_t floor = millionths(rule.floor);
  offset_t total = 0, room = 0;
  for (index_t i = 0; i < rows; ++i) {
    total += row(i).free_budget();
    room += row(i).room();
  }
  total = least(total, room);

  const auto candidates_of = [&](index_t i) {
    const pool_row r = row(i);
    const auto least_budget = static_cast<index_t>(static_cast<offset_t>(floor) * r.nominal / 1000000);
    return r.evictable(rule.kind == budget::safeguard::minimum ? greatest(0, least_budget - r.kept.count()) : 0);
  };
  if (total > 0) {
    const threshold t = find_threshold(candidates_of, rows, total, scratch.search);
    offset_t ties = t.ties_to_take;
    for (index_t i = 0; i < rows; ++i) {  // rows in order: equal scores go to the smaller row
      const candidates c = candidates_of(i);
      const index_t reachable = scratch.search.above[i] + scratch.search.equal[i];
      const index_t certain = greatest(c.floor, scratch.search.above[i]);
      const offset_t extra = least(ties, greatest<offset_t>(0, reachable - certain));
      ties -= extra;
      scratch.share[i] = certain + static_cast<index_t>(extra);
    }
  } else {
    for (index_t i = 0; i < rows; ++i) scratch.share[i] = 0;
  }

  if (rule.kind == budget::safeguard::mixture) {
    offset_t left = total;
    for (index_t i = 0; i < rows; ++i) {
      const offset_t mixed = budget::mixture_millionths(scratch.share[i], row(i).free_budget(), floor);
      const offset_t whole = least<offset_t>(mixed / 1000000, row(i).room());
      scratch.share[i] = static_cast<index_t>(whole);
      scratch.remainder[i] = mixed % 1000000;
      left -= whole;
    }
    for (; left > 0; --left) {  // largest remainder first, equal ones to the smaller row; a full row gets no more
      index_t largest = -1;
      for (index_t i = 0; i < rows; ++i)
        if (scratch.share[i] < row(i).room() && (largest < 0 || scratch.remainder[i] > scratch.remainder[largest]))
          largest = i;
      ++scratch.share[largest];
      scratch.remainder[largest] -= 1000000;
    }
  }
  for (index_t i = 0; i < rows; ++i) budget(i) = row(i).kept.count() + scratch.share[i];
}

}  // namespace kvevict::detail
