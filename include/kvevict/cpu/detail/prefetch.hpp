// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/core/workspace.hpp>
#include <kvevict/view/entries.hpp>

/// Asking the memory for what is wanted soon, where no processor foresees it: keys of the next block while this one is
/// multiplied, entries that a selection has scattered.
///
/// GCC finds a function that does nothing but prefetch to be without effect and drops the calls of it that are not
/// inlined by then. So everything here is always inlined, and so must be what contains nothing else, a lambda too.
namespace kvevict::detail {

/// `Locality`: 0 for what is used once, up to 3 for what should come into the nearest cache.
template <int Locality, bool Write = false>
[[gnu::always_inline]] inline void prefetch_bytes(const void* first, offset_t bytes) {
  for (offset_t i = 0; i < bytes; i += static_cast<offset_t>(sizeof(cache_line)))
    __builtin_prefetch(static_cast<const char*>(first) + i, Write ? 1 : 0, Locality);
}

/// One entry, where its elements are adjacent.
template <int Locality, class Entries>
[[gnu::always_inline]] inline void prefetch_entry(const Entries& from, const row_id& row, index_t slot) {
  if (dense_dims(from))
    prefetch_bytes<Locality>(from.at(row, slot, 0), from.dims() * static_cast<offset_t>(sizeof(element_of<Entries>)));
}

}  // namespace kvevict::detail
