// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <kvevict/core/types.hpp>
#include <type_traits>

namespace kvevict {

/// Storage of an IEEE binary16 number; an engine's own 16-bit type is viewed by `reinterpret_cast`.
struct half {
  std::uint16_t bits;
};

/// Storage of a bfloat16 number: the upper half of a binary32.
struct bfloat16 {
  std::uint16_t bits;
};

/// An element as a float, exact for every value of every type (subnormals, infinities and NaN included).
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr float to_float(float x) { return x; }

[[nodiscard]] KVEVICT_HOST_DEVICE constexpr float to_float(bfloat16 x) {
  return bits_as<float>(static_cast<std::uint32_t>(x.bits) << 16);
}

[[nodiscard]] KVEVICT_HOST_DEVICE constexpr float to_float(half x) {
#if defined(__CUDA_ARCH__)
  if (!__builtin_is_constant_evaluated()) {  // one instruction, which keeps subnormals with --use_fast_math too
    float f = 0;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(x.bits));
    return f;
  }
#endif
  // Branch-free, so that loops over it vectorise: shift into place, then one exact product rebiases the
  // exponent and normalises subnormals; the largest exponent (Inf, NaN) is widened by hand.
  const std::uint32_t magnitude = (x.bits & 0x7fffu) << 13;
  const std::uint32_t sign = (x.bits & 0x8000u) << 16;
  const float scaled = bits_as<float>(magnitude) * 0x1p112f;
  const std::uint32_t special = magnitude >= 0x0f800000u ? 0x7f800000u : 0u;
  return bits_as<float>(bits_as<std::uint32_t>(scaled) | special | sign);
}

/// The nearest half, ties to even; overflow gives infinity. For tests, examples and engines without their own.
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr half to_half(float x) {
  const std::uint32_t bits = bits_as<std::uint32_t>(x);
  const std::uint32_t sign = (bits >> 16) & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return {static_cast<std::uint16_t>(sign | 0x7e00u)};
  if (magnitude >= 0x477ff000u) return {static_cast<std::uint16_t>(sign | 0x7c00u)};
  if (magnitude < 0x38800000u) {
    // Below 2^-14 the spacing is 2^-24: adding 0.5 makes the hardware round the last bits to even.
    const float shifted = bits_as<float>(magnitude) + 0.5f;
    return {static_cast<std::uint16_t>(sign | (bits_as<std::uint32_t>(shifted) - 0x3f000000u))};
  }
  const std::uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return {static_cast<std::uint16_t>(sign | ((rounded - 0x38000000u) >> 13))};
}

/// The nearest bfloat16, ties to even; NaN stays NaN.
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr bfloat16 to_bfloat16(float x) {
  const std::uint32_t bits = bits_as<std::uint32_t>(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<std::uint16_t>((bits >> 16) | 0x40u)};
  return {static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

/// The nearest element of that type.
template <class Element>
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr Element from_float(float x) {
  static_assert(std::is_same_v<Element, float> || std::is_same_v<Element, half> || std::is_same_v<Element, bfloat16>,
                "kvevict: only elements of float, kvevict::half and kvevict::bfloat16 can be written");
  if constexpr (std::is_same_v<Element, float>)
    return x;
  else if constexpr (std::is_same_v<Element, half>)
    return to_half(x);
  else
    return to_bfloat16(x);
}

}  // namespace kvevict
