// SPDX-License-Identifier: MIT
#pragma once

#include <cstring>
#include <kvevict/compact/moves.hpp>
#include <kvevict/cpu/detail/turn_key.hpp>
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

/// Copies key and value of one slot.
template <class From, class To>
void copy_slot(const From& from, const To& to, const row_id& row, index_t source, index_t target) {
  copy_entry(from.keys(), to.keys(), row, source, target);
  if constexpr (cache_with_values<From>) copy_entry(from.values(), to.values(), row, source, target);
}

/// Lets one side follow a stable compaction of a row, whose keys have come to `keys`.
template <class Keys, class Side>
void retain_side(const Keys& keys, const Side& side, const row_id& row, const span<const index_t>& retained) {
  if constexpr (turns_keys<Side>)
    for (index_t k = 0; k < retained.size(); ++k)
      turn_key(keys, side.embedding, row, k, side.distance(row, retained[k], k));
  else if constexpr (requires { side.retain(row, retained); })
    side.retain(row, retained);
  else
    for (index_t k = 0; k < retained.size(); ++k) side.move(row, retained[k], k);
}

/// Moves one row, front to back: keys and values from the `first`-th retained entry on, and all sides.
template <class From, class To, class... Sides>
void move_row(const From& from, const To& to, const row_id& row, const span<const index_t>& retained, index_t first,
              const Sides&... sides) {
  for (index_t k = first; k < retained.size(); ++k) copy_slot(from, to, row, retained[k], k);
  (retain_side(to.keys(), sides, row, retained), ...);
}

}  // namespace kvevict::detail
