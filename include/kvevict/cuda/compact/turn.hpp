// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <cstdint>
#include <kvevict/core/types.hpp>

/// Sine and cosine of position * frequency for positions of any size.
///
/// Angles are counted in turns, as 64-bit fractions of one: a product of integers then drops whole turns by itself, and
/// nothing is lost however far the position is. The frequency becomes such a fraction once per block, with 1 / 2 pi in
/// two doubles, so it is off by 2^-64 turns or so; that and a phase of 32 bits make 2e-9 radians at most for positions
/// up to 2^31. (A product in double, as on the CPU, is off by the angle times 2^-53.) The nearest quarter turn is taken
/// off, and what is left, at most pi / 4, has a short series in fp32. There is no slow path for large angles, and no
/// double precision beyond the table of frequencies.
namespace kvevict::detail {

/// frequency / (2 pi) without its whole turns, in units of 2^-64 turns.
[[nodiscard]] KVEVICT_HOST_DEVICE inline std::uint64_t turn_fraction(double frequency) {
  constexpr double upper = 0x1.45f306dc9c883p-3, lower = -0x1.6b01ec5417056p-57;  // their sum is 1 / (2 pi)
  const double turns = frequency * upper;
  const double rest = std::fma(frequency, upper, -turns) + frequency * lower;
  const double scaled = (turns - std::rint(turns)) * 0x1p32, whole = std::floor(scaled);
  const auto low = static_cast<std::int64_t>((scaled - whole) * 0x1p32 + rest * 0x1p64);
  return (static_cast<std::uint64_t>(static_cast<std::int64_t>(whole)) << 32) + static_cast<std::uint64_t>(low);
}

struct turn_factors {
  float cosine, sine;
};

/// Cosine and sine of phase / 2^64 turns.
[[nodiscard]] KVEVICT_HOST_DEVICE inline turn_factors factors_of(std::uint64_t phase) {
  const auto turns = static_cast<std::uint32_t>(phase >> 32);
  const std::uint32_t quarter = (turns + 0x20000000u) >> 30;  // the nearest; 4 wraps around to 0
  const auto rest = static_cast<std::int32_t>(turns - (quarter << 30));
  const float x = static_cast<float>(rest) * 0x1.921fb6p-30f, z = x * x;  // pi / 2 in units of a quarter turn
  // Taylor's series; the first terms left out are below 2.5e-8 here.
  const float s = x + x * z * (-0x1.555556p-3f + z * (0x1.111112p-7f + z * (-0x1.a01a02p-13f + z * 0x1.71de3ap-19f)));
  const float c = 1 + z * (-0.5f + z * (0x1.555556p-5f + z * (-0x1.6c16c2p-10f + z * 0x1.a01a02p-16f)));
  const float cosine = quarter % 2 == 0 ? c : s, sine = quarter % 2 == 0 ? s : c;
  return {quarter == 1 || quarter == 2 ? -cosine : cosine, quarter >= 2 ? -sine : sine};
}

}  // namespace kvevict::detail
