// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <kvevict/budget/split.hpp>

/// What ranks that share a joint budget add up (view/ranks.hpp): the threshold of a pool is found by its digits, 8 bits
/// a round, from histograms of 64-bit numbers; then 5 numbers per head split the pool.
///
/// A bin holds how much   sum over rows of max(floor_r, candidates of r with key >= bin)   grows when the threshold
/// falls to it; rows add up, so ranks do, and floors need no exchange of their own.
namespace kvevict::detail {

inline constexpr index_t digit_bins = 256, digit_rounds = 4;
inline constexpr index_t histogram_numbers = digit_bins + 3;
inline constexpr index_t head_numbers = 5;

/// Where a histogram has its other numbers.
inline constexpr index_t reached_above = digit_bins, free_budgets = digit_bins + 1, rooms = digit_bins + 2;

[[nodiscard]] KVEVICT_HOST_DEVICE constexpr int digit_shift(int round) { return 24 - 8 * round; }

/// The numbers of a head, as one rank writes them and all read them.
KVEVICT_HOST_DEVICE constexpr void write_counts(const pool_counts& c, std::int64_t* numbers) {
  numbers[0] = c.above;
  numbers[1] = c.equal;
  numbers[2] = c.floor;
  numbers[3] = c.free_budget;
  numbers[4] = c.room;
}
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr pool_counts read_counts(const std::int64_t* numbers) {
  const auto at = [&](index_t i) { return static_cast<index_t>(numbers[i]); };
  return {at(0), at(1), at(2), at(3), at(4)};
}

}  // namespace kvevict::detail
