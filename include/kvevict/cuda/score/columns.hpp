// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <kvevict/core/types.hpp>

/// The columns that attention gives a row, of every query_head or of their group: what its kernels write and the
/// program of the row reads.
namespace kvevict::detail {

/// What becomes of the scores of a group's query_heads.
enum class heads_as : std::uint8_t { each, sum, mean, max };

/// Of all heads before and one more, and of all of them.
[[nodiscard]] KVEVICT_HOST_DEVICE inline float combined_heads(heads_as as, float all, float x) {
  if (as == heads_as::max) return x > all ? x : all;
  return all + x;
}
[[nodiscard]] KVEVICT_HOST_DEVICE inline float all_heads(heads_as as, float all, index_t heads) {
  return as == heads_as::mean ? all / static_cast<float>(heads) : all;
}

/// Where the columns of attention go: of_row(row)[query_head of the group * .head + slot] where each stays; else a
/// group has one, which is reduced as they are written.
struct column_output {
  float* data = nullptr;
  const offset_t* offsets = nullptr;  ///< where rows begin, if they do not lie `row` apart
  heads_as as = heads_as::each;
  index_t heads = 1;  ///< of a group
  offset_t row = 0;
  offset_t head = 0;

  /// [rows][kept()][length]
  [[nodiscard]] static constexpr column_output of(heads_as as, index_t heads, index_t length) {
    column_output out{nullptr, nullptr, as, heads, 0, length};
    out.row = offset_t{out.kept()} * length;
    return out;
  }
  [[nodiscard]] KVEVICT_HOST_DEVICE float* of_row(index_t index) const {
    return data + (offsets != nullptr ? offsets[index] : index * row);
  }
  /// Columns of a row.
  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr index_t kept() const { return as == heads_as::each ? heads : 1; }

  /// Puts what a slot gets from a head; one thread does so for all heads, from the first on, and keeps `all` for it.
  template <class Block>
  KVEVICT_HOST_DEVICE void put(Block& b, int t, index_t to_row, index_t from_head, offset_t slot, float x,
                               float& all) const {
    if (as == heads_as::each) {
      b.store(t, of_row(to_row) + from_head * head + slot, x);
      return;
    }
    all = from_head == 0 ? x : combined_heads(as, all, x);
    if (from_head + 1 == heads) b.store(t, of_row(to_row) + slot, all_heads(as, all, heads));
  }
};

}  // namespace kvevict::detail
