// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <cstring>
#include <kvevict/core/blocks.hpp>
#include <kvevict/core/workspace.hpp>
#include <kvevict/cpu/detail/bits.hpp>
#include <kvevict/cpu/detail/eigen.hpp>
#include <kvevict/cpu/detail/key_range.hpp>
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

/// Bits that any lane has.
[[nodiscard]] inline std::uint32_t any_lane(const key_lanes& of) {
  std::uint32_t bits = 0;
  for (index_t j = 0; j < packet_size; ++j) bits |= static_cast<std::uint32_t>(of[j]);
  return bits;
}

/// 2^j for key j of a block.
struct bits_of_keys {
  std::int32_t bit[scan_block];
};
inline constexpr bits_of_keys bit_of_key = [] {
  bits_of_keys keys{};
  for (index_t j = 0; j < scan_block; ++j) keys.bit[j] = static_cast<std::int32_t>(std::uint32_t{1} << j);
  return keys;
}();

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
inline void count_at_least(const std::int32_t* keys, index_t blocks, const key_pair& t, index_t& at_lower,
                           index_t& at_upper) {
  key_lanes above_lower[block_lanes] = {}, above_upper[block_lanes] = {};
  for (offset_t b = 0; b < blocks; ++b) KVEVICT_UNROLL for (index_t c = 0; c < block_lanes; ++c) {
      const key_lanes k = load_lanes(keys + b * scan_block + c * packet_size);
      above_lower[c] -= k >= t.lower;
      above_upper[c] -= k >= t.upper;
    }
  at_lower = sum_lanes(above_lower);
  at_upper = sum_lanes(above_upper);
}

/// Keys of a row between two, as far as there is room, how many there are, and how many keys of the row are above.
inline constexpr index_t most_listed = 256;
struct listed_keys {
  index_t above, count;
  std::int32_t keys[most_listed];

  [[nodiscard]] bool complete() const { return count <= most_listed; }
  /// How many keys of the row are at least t, which lies between the two, if all are listed.
  [[nodiscard]] index_t at_least(std::int32_t t) const {
    index_t sum = above;
    for (index_t j = 0; j < count; ++j) sum += keys[j] >= t ? 1 : 0;
    return sum;
  }
};

/// Counts the keys that are at least t.upper, and lists those below it that are at least t.lower, which is above the
/// lowest key.
inline void list_between(const std::int32_t* keys, index_t blocks, const key_pair& t, listed_keys& list) {
  key_lanes above[block_lanes] = {};
  list.count = 0;
  for (offset_t b = 0; b < blocks; ++b) {
    key_lanes between = {};
    KVEVICT_UNROLL for (index_t c = 0; c < block_lanes; ++c) {
      const key_lanes k = load_lanes(keys + b * scan_block + c * packet_size);
      const key_lanes is_above = k >= t.upper;
      above[c] -= is_above;
      between |= (k >= t.lower) & ~is_above & load_lanes(bit_of_key.bit + c * packet_size);
    }
    each_bit(any_lane(between), [&](index_t j) {
      if (list.count < most_listed) list.keys[list.count] = keys[b * scan_block + j];
      ++list.count;
    });
  }
  list.above = sum_lanes(above);
}

/// The greatest key below t, or the lowest key.
[[nodiscard]] inline std::int32_t greatest_below(const std::int32_t* keys, index_t blocks, std::int32_t t) {
  key_lanes most = lowest_key - key_lanes{};
  for (offset_t i = 0; i < offset_t{blocks} * scan_block; i += packet_size) {
    const key_lanes k = load_lanes(keys + i);
    const key_lanes is_greater = (k < t) & (k > most);
    most = is_greater ? k : most;
  }
  std::int32_t greatest_key = lowest_key;
  for (index_t j = 0; j < packet_size; ++j) greatest_key = greatest(greatest_key, std::int32_t{most[j]});
  return greatest_key;
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
  key_lanes found = {};
  KVEVICT_UNROLL for (index_t c = 0; c < scan_block; c += packet_size)  // a comparison of lanes is 0 or all bits
      found |= (load_lanes(block + c) >= t) & load_lanes(bit_of_key.bit + c);
  return any_lane(found);
}

}  // namespace kvevict::detail
