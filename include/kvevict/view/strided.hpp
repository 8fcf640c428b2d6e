// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/core/shape.hpp>

namespace kvevict {

/// Any order that strides describe: offset = layer * .layer + seq * .seq + head * .head + slot * .slot + dim * .dim,
/// in elements. The presets below are the two usual orders; a stride of 0 shares memory.
struct strided {
  offset_t layer = 0;
  offset_t seq = 0;
  offset_t head = 0;
  offset_t slot = 0;
  offset_t dim = 1;

  friend constexpr bool operator==(const strided&, const strided&) = default;

  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr offset_t offset(const row_id& row, index_t s, index_t d) const {
    return row.layer * layer + row.seq * seq + row.kv_head * head + s * slot + d * dim;
  }
  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr offset_t dim_stride() const { return dim; }
};

/// [layers][seqs][heads][capacity][dims], dense: each head's slots are adjacent.
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr strided hnd(index_t seqs, index_t heads, index_t capacity, index_t dims) {
  const offset_t entry = dims, head = entry * capacity, seq = head * heads;
  return {.layer = seq * seqs, .seq = seq, .head = head, .slot = entry, .dim = 1};
}

/// [layers][seqs][capacity][heads][dims], dense: a slot's heads are adjacent.
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr strided nhd(index_t seqs, index_t heads, index_t capacity, index_t dims) {
  const offset_t head = dims, slot = head * heads, seq = slot * capacity;
  return {.layer = seq * seqs, .seq = seq, .head = head, .slot = slot, .dim = 1};
}

}  // namespace kvevict
