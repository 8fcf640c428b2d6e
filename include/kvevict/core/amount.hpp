// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <kvevict/core/types.hpp>
#include <type_traits>

namespace kvevict {

/// A number of slots, absolute or as a share of something (of a row's length, of a budget).
///
/// A share is held in millionths, so that `percent(10)` of 100 slots is 10 on every machine: the product of a
/// binary fraction would sometimes lose a slot (`int(100 * (1 - 0.9))` is 9).
struct amount {
  index_t slots = 0;
  std::int32_t millionths = 0;

  friend constexpr bool operator==(const amount&, const amount&) = default;

  /// slots + floor(share * whole), in integers.
  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr offset_t of(index_t whole) const {
    return slots + static_cast<offset_t>(millionths) * whole / 1000000;
  }
  /// The same without rounding, for schedules that divide it further.
  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr double exactly_of(index_t whole) const {
    return static_cast<double>(slots) + static_cast<double>(millionths) * whole / 1e6;
  }
  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr bool negative() const { return slots < 0 || millionths < 0; }
};

/// A fraction in millionths, rounded to the nearest; decimal options such as 0.2 become exact. Above 2147 it is that,
/// and NaN and what is below -2147 are a negative number, which no option may be.
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr std::int32_t millionths(double fraction) {
  constexpr double most = 2147.0;
  if (!(fraction >= -most)) return static_cast<std::int32_t>(-most * 1e6);
  return static_cast<std::int32_t>(least(fraction, most) * 1e6 + (fraction < 0 ? -0.5 : 0.5));
}

[[nodiscard]] KVEVICT_HOST_DEVICE constexpr amount slots(index_t count) { return {count, 0}; }
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr amount percent(double p) { return {0, millionths(p / 100)}; }

/// a * b, rounded. Left to itself a compiler fuses a product with the sum behind it where the machine can, and results
/// would depend on flags and backend.
template <class Float>
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr Float rounded_product(Float a, Float b) {
#if defined(__CUDA_ARCH__)
  if constexpr (sizeof(Float) == sizeof(double))
    return __dmul_rn(a, b);
  else
    return __fmul_rn(a, b);
#else
  if (std::is_constant_evaluated()) return a * b;
  volatile Float rounded = a * b;
  return rounded;
#endif
}

}  // namespace kvevict
