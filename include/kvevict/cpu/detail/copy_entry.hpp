// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <cstring>
#include <kvevict/compact/moves.hpp>
#include <kvevict/cpu/detail/prefetch.hpp>
#include <kvevict/cpu/detail/turn_key.hpp>
#include <kvevict/view/entries.hpp>
#include <type_traits>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace kvevict::detail {

/// Where copies go: into the caches, or, where they are more than caches hold, past them (as the C library's memcpy
/// does). Going into a cache costs a read of the line that is replaced.
enum class copy_to { cache, memory };

/// Where the copies of a compaction go: as many entries as a selection retains.
template <class From>
[[nodiscard]] copy_to target_of(const From& from, const selection& kept) {
  constexpr offset_t more_than_caches = offset_t{32} << 20;
  const offset_t bytes = (kept.offsets[kept.rows()] - kept.offsets[0]) * entry_bytes(from);
  return bytes > more_than_caches ? copy_to::memory : copy_to::cache;
}

/// Whole lines go past the caches where the processor can; everything else is a memcpy.
inline void copy_bytes(void* to, const void* from, std::size_t bytes, [[maybe_unused]] copy_to where) {
#if defined(__SSE2__)
  const auto whole_lines = (reinterpret_cast<std::uintptr_t>(to) | bytes) % sizeof(cache_line) == 0;
  if (where == copy_to::memory && whole_lines) {
    auto* out = static_cast<__m128i*>(to);
    const auto* in = static_cast<const __m128i*>(from);
    for (std::size_t i = 0; i < bytes / sizeof(__m128i); ++i) _mm_stream_si128(out + i, _mm_loadu_si128(in + i));
    return;
  }
#endif
  std::memcpy(to, from, bytes);
}

/// Makes what went past the caches visible to whoever sees what this thread writes next.
inline void finish_copies([[maybe_unused]] copy_to where) {
#if defined(__SSE2__)
  if (where == copy_to::memory) _mm_sfence();
#endif
}

/// Copies one entry, bytes unchanged.
template <class From, class To>
void copy_entry(const From& from, const To& to, const row_id& row, index_t source, index_t target, copy_to where) {
  static_assert(std::is_same_v<element_of<From>, element_of<To>>,
                "kvevict: compaction moves bytes; source and destination need the same element type");
  if (dense_dims(from) && dense_dims(to)) {
    copy_bytes(to.at(row, target, 0), from.at(row, source, 0),
               static_cast<std::size_t>(from.dims()) * sizeof(element_of<From>), where);
  } else {
    for (index_t d = 0; d < from.dims(); ++d) *to.at(row, target, d) = *from.at(row, source, d);
  }
}

/// Copies key and value of one slot.
template <class From, class To>
void copy_slot(const From& from, const To& to, const row_id& row, index_t source, index_t target,
               copy_to where = copy_to::cache) {
  copy_entry(from.keys(), to.keys(), row, source, target, where);
  if constexpr (cache_with_values<From>) copy_entry(from.values(), to.values(), row, source, target, where);
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
              copy_to where, const Sides&... sides) {
  constexpr offset_t bytes_ahead = 8192;
  const offset_t ahead = bytes_ahead / entry_bytes(from) + 1;
  for (index_t k = first; k < retained.size(); ++k) {
    if (const offset_t next = k + ahead; next < retained.size()) {
      prefetch_entry<0>(from.keys(), row, retained[next]);
      if constexpr (cache_with_values<From>) prefetch_entry<0>(from.values(), row, retained[next]);
    }
    copy_slot(from, to, row, retained[k], k, where);
  }
  finish_copies(where);
  (retain_side(to.keys(), sides, row, retained), ...);
}

}  // namespace kvevict::detail
