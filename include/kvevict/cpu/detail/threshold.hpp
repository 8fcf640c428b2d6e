// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <kvevict/core/types.hpp>
#include <kvevict/select/order.hpp>

/// Radix search for the score that separates what stays from what goes, over one row or a pool of rows.
namespace kvevict::detail {

/// Evictable scores of one row, and the least number of them that must stay.
struct candidates {
  const float* scores = nullptr;
  index_t count = 0;
  index_t floor = 0;
};

/// Below `above` and `ties`, per row: candidates above the threshold, and those equal to it.
struct threshold {
  std::uint32_t key = 0;
  offset_t ties_to_take = 0;  ///< among candidates equal to it, over all rows in order
};

/// The largest key T such that   sum over rows of max(floor_r, candidates of r with key >= T) >= total,
/// and how many of the candidates equal to T it takes to reach the total. With all floors 0 this is the plain
/// joint top-`total`; with floors it equals "protect each row's best floor_r, then drop the lowest" (kvpress),
/// because max() only counts what the row takes anyway. 1 <= total <= sum of counts; floors sum to <= total.
///
/// histogram [rows][digit_values], above [rows] (on return: candidates with key > T). The sum is monotone in T, so
/// each digit is decided by one walk down its histogram.
template <class Candidates>
threshold find_threshold(const Candidates& of, index_t rows, offset_t total, std::uint32_t* histogram, index_t* above) {
  std::uint32_t prefix = 0;
  for (index_t r = 0; r < rows; ++r) above[r] = 0;
  offset_t reached = 0;
  for (int digit = 0; digit < digit_count; ++digit) {
    for (index_t r = 0; r < rows; ++r) {
      std::uint32_t* bins = histogram + static_cast<offset_t>(r) * digit_values;
      for (index_t b = 0; b < digit_values; ++b) bins[b] = 0;
      const candidates row = of(r);
      for (index_t i = 0; i < row.count; ++i) {
        const std::uint32_t key = order_key(row.scores[i]);
        if (same_prefix(key, prefix, digit)) ++bins[digit_of(key, digit)];
      }
    }
    // Walk down until taking the whole bin would reach the total; that bin holds the threshold.
    index_t bin = digit == 2 ? 1023 : digit_values - 1;
    for (;; --bin) {
      reached = 0;
      for (index_t r = 0; r < rows; ++r) {
        const auto with_bin = above[r] + static_cast<index_t>(histogram[static_cast<offset_t>(r) * digit_values + bin]);
        reached += greatest(of(r).floor, with_bin);
      }
      if (reached >= total || bin == 0) break;
      for (index_t r = 0; r < rows; ++r)
        above[r] += static_cast<index_t>(histogram[static_cast<offset_t>(r) * digit_values + bin]);
    }
    prefix |= static_cast<std::uint32_t>(bin) << digit_shift(digit);
  }
  offset_t taken = 0;
  for (index_t r = 0; r < rows; ++r) taken += greatest(of(r).floor, above[r]);
  return {prefix, total - taken};
}

}  // namespace kvevict::detail
