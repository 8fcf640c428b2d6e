// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/core/shape.hpp>

namespace kvevict {

/// Heads of different length back to back (Ada-KV's flattened cache), each with room to grow:
///
///     row 0            row 1      row 2
///     |e e e e . . |e e . |e e e e e e . . . |        e = entry, . = room
///     offsets[0]   offsets[1]                offsets[rows]      in slots, 64-bit
///
/// How many entries of a row are occupied is the view's business (`cache::lengths`); `capacity` is its room.
struct flat {
  const offset_t* offsets = nullptr;  ///< [rows + 1]
  index_t dims = 0;

  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr offset_t offset(const row_id& row, index_t s, index_t d) const {
    return (offsets[row.index] + s) * dims + d;
  }
  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr offset_t dim_stride() const { return 1; }
  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr offset_t capacity(const row_id& row) const {
    return offsets[row.index + 1] - offsets[row.index];
  }
};

}  // namespace kvevict
