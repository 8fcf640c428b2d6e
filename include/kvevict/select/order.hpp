// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <kvevict/core/types.hpp>

/// The order of scores as integers: what all backends compare, so that the same scores give the same selection.
namespace kvevict {

/// Larger score, larger key. NaN (any) is the lowest number, below -infinity; -0 and +0 are equal. Without branches,
/// so that loops over it vectorise; in integers, so that no floating-point mode of the caller changes it.
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr std::int32_t order_key(float score) {
  const auto bits = bits_as<std::int32_t>(score);
  const std::int32_t magnitude = bits & 0x7fffffff, sign = bits >> 31;
  const std::int32_t number = (magnitude ^ sign) - sign;  // of a negative score minus its magnitude
  return magnitude > 0x7f800000 ? -0x7fffffff - 1 : number;
}

}  // namespace kvevict
