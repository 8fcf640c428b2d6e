// SPDX-License-Identifier: MIT
#pragma once

#include <cstring>
#include <kvevict/compact/moves.hpp>
#include <kvevict/view/entries.hpp>
#include <type_traits>

namespace kvevict::detail {

/// Copies one entry, bytes unchanged.
template <class From, class To>
void copy_entry(const From& from, const To& to, const row_id& row, index_t source, index_t target) {
  static_assert(std::is_same_v<element_of<From>, element_of<To>>,
                "kvevict: compaction moves bytes; source and destination need the same element type");
  if (dense_dims(from) && dense_dims(to)) {
    std::memcpy(to.at(row, target, 0), from.at(row, source, 0),
                static_cast<std::size_t>(from.dims()) * sizeof(element_of<From>));
  } else {
    for (index_t d = 0; d < from.dims(); ++d) *to.at(row, target, d) = *from.at(row, source, d);
  }
}

/// Moves one row from its `first`-th retained entry on: keys, values and side arrays, front to back.
template <class From, class To, class... T>
void move_row(const From& from, const To& to, const row_id& row, const span<const index_t>& retained, index_t first,
              const side_array<T>&... sides) {
  for (index_t k = first; k < retained.size(); ++k) {
    const index_t slot = retained[k];
    copy_entry(from.keys(), to.keys(), row, slot, k);
    if constexpr (cache_with_values<From>) copy_entry(from.values(), to.values(), row, slot, k);
    ((sides.to[sides.to_layout.offset(row, k, 0)] = sides.from[sides.from_layout.offset(row, slot, 0)]), ...);
  }
}

template <class... T>
[[nodiscard]] status check_sides(const side_array<T>&... sides) {
  if (((sides.from == nullptr || sides.to == nullptr) || ...))
    return {status_code::bad_pointer, "side", "a side array is null"};
  return {};
}

}  // namespace kvevict::detail
