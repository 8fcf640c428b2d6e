// SPDX-License-Identifier: MIT
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <kvevict/core/types.hpp>
#include <kvevict/cpu/detail/eigen.hpp>
#include <kvevict/select/order.hpp>
#include <limits>

/// Scores in blocks, as keys and bit masks: loops of a fixed length without branches, which compilers turn into the
/// vectors of the machine also at -O2.
namespace kvevict::detail {

inline constexpr index_t scan_block = 32;
inline constexpr std::int32_t lowest_key = std::numeric_limits<std::int32_t>::min();  ///< NaN
inline constexpr std::int32_t highest_key = std::numeric_limits<std::int32_t>::max();

/// A block of keys; what lies behind `count` scores gets the lowest key.
struct alignas(64) key_block {
  std::int32_t key[scan_block + 1];  // the last is read where a mask has run out of bits, and never used

  void load(const float* scores) {
    for (index_t j = 0; j < scan_block; ++j) key[j] = order_key(scores[j]);
  }
  void load(const float* scores, index_t count) {
    if (count >= scan_block) return load(scores);
    for (index_t j = 0; j < scan_block; ++j) key[j] = j < count ? order_key(scores[j]) : lowest_key;
  }
  /// Bit j: key j is at least t.
  [[nodiscard]] std::uint32_t at_least(std::int32_t t) const {
    std::uint32_t mask = 0;
    for (index_t j = 0; j < scan_block; ++j) mask |= key[j] >= t ? std::uint32_t{1} << j : 0u;
    return mask;
  }
};

/// Bits of a block that lies `left` scores before the end of a row.
[[nodiscard]] inline std::uint32_t inside(index_t left) {
  return left >= scan_block ? ~std::uint32_t{0} : (std::uint32_t{1} << left) - 1;
}

/// to[0 ..] = value(bit) for the set bits, lowest first; returns their number. Four at a time without asking whether
/// they are there: how many bits a mask has is what a processor cannot predict. Up to `spill` more places are written.
inline constexpr index_t spill = 4;
template <class T, class Value>
index_t write_bits(std::uint32_t mask, T* to, const Value& value) {
  const auto count = static_cast<index_t>(std::popcount(mask));
  index_t written = 0;
  do {
    for (index_t k = 0; k < 4; ++k) {
      to[written + k] = value(static_cast<index_t>(std::countr_zero(mask)));
      mask &= mask - 1;
    }
    written += 4;
  } while (written < count);
  return count;
}

/// Calls f(bit) for the set bits, lowest first.
template <class F>
void each_bit(std::uint32_t mask, const F& f) {
  for (; mask != 0; mask &= mask - 1) f(static_cast<index_t>(std::countr_zero(mask)));
}

/// How many of `blocks` blocks of keys are at least t.
[[nodiscard]] inline index_t count_at_least(const std::int32_t* keys, index_t blocks, std::int32_t t) {
  // One register of the machine: compilers do not vectorise this reduction at -O2 when left alone.
  using lanes [[gnu::vector_size(packet_size * sizeof(std::int32_t))]] = std::int32_t;
  lanes counts{};
  for (const std::int32_t* const end = keys + static_cast<offset_t>(blocks) * scan_block; keys < end;
       keys += packet_size) {
    lanes k;
    std::memcpy(&k, keys, sizeof k);
    counts -= k >= t;  // a comparison of lanes is 0 or -1
  }
  index_t total = 0;
  for (index_t j = 0; j < packet_size; ++j) total += counts[j];
  return total;
}

/// The same of scores; t must be above the lowest key.
[[nodiscard]] inline index_t count_at_least(const float* scores, index_t count, std::int32_t t) {
  index_t total = 0;
  key_block block;
  for (index_t i = 0; i < count; i += scan_block) {
    block.load(scores + i, count - i);
    total += static_cast<index_t>(std::popcount(block.at_least(t)));
  }
  return total;
}

}  // namespace kvevict::detail
