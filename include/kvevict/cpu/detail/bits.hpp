// SPDX-License-Identifier: MIT
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <kvevict/core/types.hpp>

/// The set bits of a mask of 32, as slots.
namespace kvevict::detail {

/// For every byte: which bits are set, lowest first, and how many. Where a mask has its bits a processor cannot
/// predict, so a loop over them pays for it once per mask; a table asks nothing.
struct byte_bits {
  index_t place[256][8];
  std::uint8_t count[256];
};
inline constexpr byte_bits bits_of_byte = [] {
  byte_bits of{};
  for (std::uint32_t byte = 0; byte < 256; ++byte)
    for (index_t bit = 0; bit < 8; ++bit)
      if ((byte >> bit & 1) != 0) of.place[byte][of.count[byte]++] = bit;
  return of;
}();

/// to[0 ..] = first + bit for the set bits, lowest first; returns their number. Up to `spill` more places are written.
inline constexpr index_t spill = 8;
inline index_t write_bits(std::uint32_t mask, index_t first, index_t* to) {
  using eight [[gnu::vector_size(8 * sizeof(index_t))]] = index_t;
  index_t written = 0;
  KVEVICT_UNROLL for (index_t bit = 0; bit < 32; bit += 8) {
    const std::uint32_t byte = mask >> bit & 255;
    eight slots;
    std::memcpy(&slots, bits_of_byte.place[byte], sizeof slots);
    slots += first + bit;
    std::memcpy(to + written, &slots, sizeof slots);
    written += bits_of_byte.count[byte];
  }
  return written;
}

/// Calls f(bit) for the set bits, lowest first.
template <class F>
void each_bit(std::uint32_t mask, const F& f) {
  for (; mask != 0; mask &= mask - 1) f(static_cast<index_t>(std::countr_zero(mask)));
}

/// Bits below `left`, or all of them.
[[nodiscard]] inline std::uint32_t inside(index_t left) {
  return left >= 32 ? ~std::uint32_t{0} : (std::uint32_t{1} << left) - 1;
}

}  // namespace kvevict::detail
