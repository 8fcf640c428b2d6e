// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <kvevict/core/types.hpp>

/// The order of scores as integers: what all backends compare, so that the same scores give the same selection.
namespace kvevict {

namespace detail {

/// order_key of the bits of a score, or of a vector of them.
template <class Bits>
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr Bits order_key_of(Bits bits) {
  const Bits magnitude = bits & 0x7fffffff, sign = bits >> 31;
  const Bits number = (magnitude ^ sign) - sign;  // of a negative score minus its magnitude
  return magnitude > 0x7f800000 ? Bits{} + (-0x7fffffff - 1) : number;
}

}  // namespace detail

/// Larger score, larger key. NaN (any) is the lowest number, below -infinity; -0 and +0 are equal. Without branches,
/// so that loops over it vectorise; in integers, so that no floating-point mode of the caller changes it.
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr std::int32_t order_key(float score) {
  return detail::order_key_of(bits_as<std::int32_t>(score));
}

namespace detail {

/// The same as an unsigned number, whose digits are searched from the top.
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr std::uint32_t radix_key(float score) {
  return static_cast<std::uint32_t>(order_key(score)) ^ 0x80000000u;
}

}  // namespace detail

}  // namespace kvevict
