// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/core/types.hpp>

namespace kvevict {

/// Rows of different length, one after another; owns nothing.
///
///     data     [offsets[rows]]
///     offsets  [rows + 1], first 0, ascending: row r is data[offsets[r]] .. data[offsets[r + 1]] (excluded)
template <class T>
struct ragged {
  T* data = nullptr;
  const offset_t* offsets = nullptr;
  index_t rows = 0;

  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr span<T> operator[](index_t row) const {
    return {data + offsets[row], offsets[row + 1] - offsets[row]};
  }
  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr index_t length(index_t row) const {
    return static_cast<index_t>(offsets[row + 1] - offsets[row]);
  }
};

}  // namespace kvevict
