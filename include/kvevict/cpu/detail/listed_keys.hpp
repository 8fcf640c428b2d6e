// SPDX-License-Identifier: MIT
#pragma once

#include <bit>
#include <kvevict/cpu/detail/bits.hpp>
#include <kvevict/cpu/detail/key_range.hpp>
#include <kvevict/cpu/detail/scan.hpp>

namespace kvevict::detail {

/// Some keys of a row: a sample, or those between two.
struct listed_keys {
  std::int32_t* keys = nullptr;  ///< [room]
  index_t room = 0;              ///< whole blocks
  index_t count = 0;             ///< how many there are, also where they find no room
  index_t above = 0;             ///< keys of the row that are at least the upper of the two

  /// Lists are written a block at a time, as long as there is room for all of one.
  [[nodiscard]] index_t last_start() const { return room - scan_block - spill; }
  [[nodiscard]] bool complete() const { return count <= last_start(); }

  /// How many of the listed keys are at least t.
  [[nodiscard]] index_t at_least(std::int32_t t) const {
    key_lanes reached = {};
    for (index_t j = 0; j < count; j += packet_size) reached -= load_lanes(keys + j) >= t;
    return sum_lanes(reached);
  }

  /// Lists every `step`-th block, for all of which there is room.
  void sample(const score_blocks& blocks, index_t step) {
    count = above = 0;
    for (index_t b = 0; b < blocks.size(); count += blocks.filled(b), b += step)
      for (index_t j = 0; j < scan_block; j += packet_size)
        store_lanes(keys + count + j, any_score::numbers(blocks[b] + j));
  }

  /// Makes `low` and `high` embrace the listed keys.
  void embrace(std::int32_t& low, std::int32_t& high) const {
    key_lanes least_of = low - key_lanes{}, most_of = high - key_lanes{};
    for (index_t j = 0; j < count; j += packet_size) {
      const key_lanes k = load_lanes(keys + j);
      least_of = k < least_of ? k : least_of;
      most_of = k > most_of ? k : most_of;
    }
    for (index_t j = 0; j < packet_size; ++j) {
      low = least(low, std::int32_t{least_of[j]});
      high = greatest(high, std::int32_t{most_of[j]});
    }
  }

  /// Counts the keys that are at least t.upper, and lists those below it that are at least t.lower, which is above the
  /// lowest key.
  void between(const key_pair& t, const score_blocks& blocks) {
    in_order_of(t.lower, t.upper, [&](auto order) { list(order, t, blocks); });
    if (!complete()) return;
    for (index_t j = 0; j < count; ++j) keys[j] = order_key(blocks.score(keys[j]));
    for (index_t j = count; j % packet_size != 0; ++j) keys[j] = lowest_key;
  }

  /// Counts them without a list.
  void only_count(const key_pair& t, const score_blocks& blocks) {
    in_order_of(t.lower, t.upper, [&](auto order) { count_both(order, t, blocks); });
  }

 private:
  /// Lists slots, whose keys are read when all are known.
  template <class Order>
  void list(Order order, const key_pair& t, const score_blocks& blocks) {
    const std::int32_t lower = order.number(t.lower), upper = order.number(t.upper);
    const index_t last = last_start();
    key_lanes below[block_lanes] = {};
    index_t found = 0;
    for (index_t b = 0; b < blocks.size(); ++b) {
      key_lanes between = {};
      KVEVICT_UNROLL for (index_t c = 0; c < block_lanes; ++c) {  // a comparison of lanes is 0 or -1
        const key_lanes k = order.numbers(blocks[b] + c * packet_size);
        const key_lanes is_below = k < upper;
        below[c] -= is_below;
        between |= is_below & ~(k < lower) & bits_of_lanes(c);
      }
      const std::uint32_t slots = any_lane(between);
      if (slots == 0) continue;
      found += found <= last ? write_bits(slots, b * scan_block, keys + found) : std::popcount(slots);
    }
    count = found;
    above = blocks.size() * scan_block - sum_lanes(below);
  }
  template <class Order>
  void count_both(Order order, const key_pair& t, const score_blocks& blocks) {
    const std::int32_t lower = order.number(t.lower), upper = order.number(t.upper);
    key_lanes below_lower[block_lanes] = {}, below_upper[block_lanes] = {};
    for (index_t b = 0; b < blocks.size(); ++b) KVEVICT_UNROLL for (index_t c = 0; c < block_lanes; ++c) {
        const key_lanes k = order.numbers(blocks[b] + c * packet_size);
        below_lower[c] -= k < lower;
        below_upper[c] -= k < upper;
      }
    const index_t up_to_upper = sum_lanes(below_upper);
    count = up_to_upper - sum_lanes(below_lower);
    above = blocks.size() * scan_block - up_to_upper;
  }
};

}  // namespace kvevict::detail
