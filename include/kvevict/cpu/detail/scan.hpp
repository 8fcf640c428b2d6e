// SPDX-License-Identifier: MIT
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <kvevict/core/blocks.hpp>
#include <kvevict/core/workspace.hpp>
#include <kvevict/cpu/detail/eigen.hpp>
#include <kvevict/select/order.hpp>
#include <limits>

/// Scores as keys, and what is asked of them: loops over blocks of a fixed length without branches, which compilers
/// turn into the vectors of the machine also at -O2.
namespace kvevict::detail {

inline constexpr index_t scan_block = loop_block;
inline constexpr std::int32_t lowest_key = std::numeric_limits<std::int32_t>::min();   ///< NaN
inline constexpr std::int32_t highest_key = std::numeric_limits<std::int32_t>::max();  ///< above that of any score

[[nodiscard]] constexpr index_t blocks_of(index_t keys) { return (keys + scan_block - 1) / scan_block; }

/// Room for the keys of a row.
inline std::int32_t* take_keys(carver& from, index_t length) {
  return from.take<std::int32_t>(static_cast<offset_t>(blocks_of(length)) * scan_block);
}

/// keys[j] = order_key(scores[j]), filled up with the lowest key to whole blocks.
inline void write_keys(const float* scores, index_t count, std::int32_t* keys) {
  each_in_blocks(count, [&](index_t j) { keys[j] = order_key(scores[j]); });
  for (index_t j = count; j < blocks_of(count) * scan_block; ++j) keys[j] = lowest_key;
}

/// A register of keys: compilers do not vectorise reductions at -O2 when left alone.
using key_lanes [[gnu::vector_size(packet_size * sizeof(std::int32_t))]] = std::int32_t;
inline constexpr index_t block_lanes = scan_block / packet_size;
inline key_lanes load_lanes(const std::int32_t* keys) {
  key_lanes k;
  std::memcpy(&k, keys, sizeof k);
  return k;
}

[[nodiscard]] inline index_t sum_lanes(const key_lanes (&counts)[block_lanes]) {
  index_t total = 0;
  for (const key_lanes& c : counts)
    for (index_t j = 0; j < packet_size; ++j) total += c[j];
  return total;
}

/// How many keys of every `step`-th of `blocks` blocks are at least t, which is above the lowest key.
[[nodiscard]] inline index_t count_at_least(const std::int32_t* keys, index_t blocks, std::int32_t t,
                                            index_t step = 1) {
  key_lanes counts[block_lanes] = {};
  for (offset_t b = 0; b < blocks; b += step)
    KVEVICT_UNROLL for (index_t c = 0; c < block_lanes; ++c)  // a comparison of lanes is 0 or -1
        counts[c] -= load_lanes(keys + b * scan_block + c * packet_size) >= t;
  return sum_lanes(counts);
}

/// The same for two keys, of all blocks, read once.
inline void count_at_least(const std::int32_t* keys, index_t blocks, std::int32_t lower, std::int32_t upper,
                           index_t& at_lower, index_t& at_upper) {
  key_lanes above_lower[block_lanes] = {}, above_upper[block_lanes] = {};
  for (offset_t b = 0; b < blocks; ++b) KVEVICT_UNROLL for (index_t c = 0; c < block_lanes; ++c) {
      const key_lanes k = load_lanes(keys + b * scan_block + c * packet_size);
      above_lower[c] -= k >= lower;
      above_upper[c] -= k >= upper;
    }
  at_lower = sum_lanes(above_lower);
  at_upper = sum_lanes(above_upper);
}

/// Makes `low` and `high` embrace the keys of every `step`-th of `blocks` blocks.
inline void embrace_keys(const std::int32_t* keys, index_t blocks, index_t step, std::int32_t& low,
                         std::int32_t& high) {
  key_lanes least_of = low - key_lanes{}, most_of = high - key_lanes{};
  for (offset_t b = 0; b < blocks; b += step)
    for (index_t c = 0; c < block_lanes; ++c) {
      const key_lanes k = load_lanes(keys + b * scan_block + c * packet_size);
      least_of = k < least_of ? k : least_of;
      most_of = k > most_of ? k : most_of;
    }
  for (index_t j = 0; j < packet_size; ++j) {
    low = least(low, std::int32_t{least_of[j]});
    high = greatest(high, std::int32_t{most_of[j]});
  }
}

/// Bit j: key j of a block is at least t.
[[nodiscard]] inline std::uint32_t at_least(const std::int32_t* block, std::int32_t t) {
  std::uint32_t mask = 0;
  for (index_t j = 0; j < scan_block; ++j) mask |= block[j] >= t ? std::uint32_t{1} << j : 0u;
  return mask;
}

/// Bits of a block that lies `left` keys before the end of a row.
[[nodiscard]] inline std::uint32_t inside(index_t left) {
  return left >= scan_block ? ~std::uint32_t{0} : (std::uint32_t{1} << left) - 1;
}

/// to[0 ..] = first + bit for the set bits, lowest first; returns their number. Four at a time without asking whether
/// they are there: how many bits a mask has is what a processor cannot predict. Up to `spill` more places are written.
inline constexpr index_t spill = 4;
inline index_t write_bits(std::uint32_t mask, index_t first, index_t* to) {
  const auto count = static_cast<index_t>(std::popcount(mask));
  index_t written = 0;
  do {
    for (index_t k = 0; k < 4; ++k) {
      to[written + k] = first + static_cast<index_t>(std::countr_zero(mask));
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

}  // namespace kvevict::detail
