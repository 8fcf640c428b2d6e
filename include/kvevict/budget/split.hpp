// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/budget/adaptive.hpp>
#include <kvevict/core/types.hpp>

namespace kvevict::detail {

/// What the split of a pool needs to know of a row: counts only, so that they can come from anywhere.
struct pool_counts {
  index_t above = 0;  ///< evictable scores above the joint threshold
  index_t equal = 0;  ///< and equal to it
  index_t floor = 0;  ///< least of them that stay
  index_t free_budget = 0;
  index_t room = 0;
};

/// Least evictable slots that the safeguard gives a row of that nominal budget.
template <class Base>
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr index_t floor_of(const budget::adaptive<Base>& rule, index_t nominal,
                                                             index_t protected_count, index_t room) {
  if (rule.kind != budget::safeguard::minimum) return 0;
  const auto floor = static_cast<index_t>(static_cast<offset_t>(millionths(rule.floor)) * nominal / 1000000);
  return least(greatest(0, floor - protected_count), room);
}

/// Splits the free budget `total` of a pool (budget/adaptive.hpp): share[i] evictable slots for row i.
KVEVICT_CALLS_BACK
template <class Base, class Counts>
KVEVICT_HOST_DEVICE constexpr void split_pool(const budget::adaptive<Base>& rule, index_t rows, offset_t total,
                                              const Counts& of, index_t* share, offset_t* remainder) {
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
    if (largest < 0) return;  // counts that do not belong together
    ++share[largest];
    remainder[largest] -= 1000000;
  }
}

}  // namespace kvevict::detail
