// SPDX-License-Identifier: MIT
#pragma once

#include <bit>
#include <cstdint>
#include <kvevict/core/types.hpp>

/// The order of scores as integers: what all backends compare, so that the same scores give the same selection.
namespace kvevict {

/// Larger score, larger key. NaN (any) is 0, below -infinity; -0 and +0 are equal.
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr std::uint32_t order_key(float score) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(score);
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return 0;
  if (magnitude == 0) return 0x80000000u;
  return (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
}

/// The key is searched digit by digit, most significant first: 11, 11 and 10 bits.
inline constexpr int digit_count = 3;
inline constexpr index_t digit_values = 2048;

[[nodiscard]] KVEVICT_HOST_DEVICE constexpr int digit_shift(int digit) { return digit == 0 ? 21 : digit == 1 ? 10 : 0; }

[[nodiscard]] KVEVICT_HOST_DEVICE constexpr std::uint32_t digit_of(std::uint32_t key, int digit) {
  return (key >> digit_shift(digit)) & (digit == 2 ? 1023u : 2047u);
}
/// Whether the digits before `digit` equal those of `prefix`.
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr bool same_prefix(std::uint32_t key, std::uint32_t prefix, int digit) {
  return digit == 0 || (key >> digit_shift(digit - 1)) == (prefix >> digit_shift(digit - 1));
}

}  // namespace kvevict
