// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <kvevict/core/blocks.hpp>
#include <kvevict/cpu/detail/eigen.hpp>
#include <kvevict/select/order.hpp>
#include <limits>

/// Scores as registers of keys, read where they lie. Loops go over blocks of a fixed length without branches, which
/// compilers turn into the vectors of the machine also at -O2.
namespace kvevict::detail {

inline constexpr index_t scan_block = loop_block;
inline constexpr std::int32_t lowest_key = std::numeric_limits<std::int32_t>::min();  ///< NaN
inline constexpr std::int32_t infinite_key = 0x7f800000;
inline constexpr std::int32_t highest_key = infinite_key + 1;  ///< above that of any score

/// A register of numbers: compilers do not vectorise reductions at -O2 when left alone. A typedef, for g++ forgets the
/// attribute of an alias.
template <class Number, index_t Count>
struct lanes_of {
  typedef Number type __attribute__((vector_size(Count * sizeof(Number))));
};
using key_lanes = lanes_of<std::int32_t, packet_size>::type;
inline constexpr index_t block_lanes = scan_block / packet_size;

inline key_lanes load_lanes(const void* from) {
  key_lanes k;
  std::memcpy(&k, from, sizeof k);
  return k;
}
inline void store_lanes(void* to, const key_lanes& k) { std::memcpy(to, &k, sizeof k); }

[[nodiscard]] inline index_t sum_lanes(const key_lanes& counts) {
  index_t total = 0;
  for (index_t j = 0; j < packet_size; ++j) total += counts[j];
  return total;
}
[[nodiscard]] inline index_t sum_lanes(const key_lanes (&counts)[block_lanes]) {
  index_t total = 0;
  for (const key_lanes& c : counts) total += sum_lanes(c);
  return total;
}

/// Bits that any lane has: half on half, which compilers do not think of.
template <index_t Count = packet_size>
[[nodiscard]] std::uint32_t any_lane(const typename lanes_of<std::int32_t, Count>::type& of) {
  if constexpr (Count == 2) {
    return static_cast<std::uint32_t>(of[0] | of[1]);
  } else {
    typename lanes_of<std::int32_t, Count / 2>::type halves[2];
    std::memcpy(halves, &of, sizeof halves);
    return any_lane<Count / 2>(halves[0] | halves[1]);
  }
}

/// Scores and keys as numbers that compare as the keys do.
struct any_score {
  static key_lanes numbers(const float* scores) { return order_key_of(load_lanes(scores)); }
  static std::int32_t number(std::int32_t key) { return key; }
};
/// The same in one step, for keys of positive scores: the bits, moved up so far that positive NaNs wrap around to the
/// lowest numbers. What is negative stays below, in no order.
struct positive_score {
  static constexpr std::int32_t up = 0x7fffff;
  static key_lanes numbers(const float* scores) {
    lanes_of<std::uint32_t, packet_size>::type bits;
    std::memcpy(&bits, scores, sizeof bits);
    bits += std::uint32_t{up};
    return load_lanes(&bits);
  }
  static std::int32_t number(std::int32_t key) { return key + up; }
};

/// f(order), with the one that does for keys between two.
template <class F>
void in_order_of(std::int32_t least_key, std::int32_t greatest_key, const F& f) {
  if (least_key > 0 && greatest_key <= infinite_key)
    f(positive_score{});
  else
    f(any_score{});
}

/// The scores of a row in blocks, the last one filled up with NaN.
class score_blocks {
 public:
  score_blocks(const float* scores, index_t count)
      : scores_(scores), whole_(count / scan_block), left_(count % scan_block) {
    float* const end = std::copy(scores + count - left_, scores + count, last_);
    std::fill(end, last_ + scan_block, std::numeric_limits<float>::quiet_NaN());
  }
  [[nodiscard]] index_t size() const { return whole_ + (left_ > 0 ? 1 : 0); }
  /// How many scores a block has.
  [[nodiscard]] index_t filled(index_t b) const { return b < whole_ ? scan_block : left_; }
  [[nodiscard]] float score(index_t slot) const { return scores_[slot]; }
  [[nodiscard]] const float* operator[](index_t b) const {
    return b < whole_ ? scores_ + offset_t{b} * scan_block : last_;
  }

 private:
  const float* scores_;
  index_t whole_, left_;
  float last_[scan_block];
};

/// 2^j for score j of a block.
struct bits_of_block {
  std::int32_t bit[scan_block];
};
inline constexpr bits_of_block bit_of_score = [] {
  bits_of_block of{};
  for (index_t j = 0; j < scan_block; ++j) of.bit[j] = static_cast<std::int32_t>(std::uint32_t{1} << j);
  return of;
}();
inline key_lanes bits_of_lanes(index_t c) { return load_lanes(bit_of_score.bit + c * packet_size); }

/// Bit j: score j of a block has a key of at least t.
template <class Order>
[[nodiscard]] std::uint32_t at_least(Order order, const float* block, std::int32_t t) {
  key_lanes below = {};
  KVEVICT_UNROLL for (index_t c = 0; c < block_lanes; ++c)  // a comparison of lanes is 0 or all bits
      below |= (order.numbers(block + c * packet_size) < order.number(t)) & bits_of_lanes(c);
  return ~any_lane(below);
}

}  // namespace kvevict::detail
