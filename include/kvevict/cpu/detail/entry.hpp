// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/view/entries.hpp>

namespace kvevict::detail {

/// One entry as floats, or as the bf16 that it is.
template <class Entries>
void load_entry(const Entries& from, const row_id& row, index_t slot, float* to) {
  from.load(row, slot, to);
}
template <class Entries>
void load_entry(const Entries& from, const row_id& row, index_t slot, bfloat16* to) {
  for (index_t d = 0; d < from.dims(); ++d) to[d] = *from.at(row, slot, d);
}

/// One entry where it lies, if its elements are what is wanted and close together, and otherwise brought to `room`.
/// What is made of it then does not depend on the layout.
template <class Element, class Entries>
[[nodiscard]] const Element* entry_as(const Entries& from, const row_id& row, index_t slot, Element* room) {
  if constexpr (plain_elements<Entries, Element>)
    if (dense_dims(from)) return from.at(row, slot, 0);
  load_entry(from, row, slot, room);
  return room;
}

}  // namespace kvevict::detail
