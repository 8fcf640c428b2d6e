// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>
#include <kvevict/compact/rope.hpp>
#include <kvevict/core/status.hpp>
#include <kvevict/select/selection.hpp>
#include <kvevict/view/check.hpp>
#include <kvevict/view/strided.hpp>
#include <tuple>
#include <type_traits>

/// Making memory match a selection: entry `retained[k]` of a row moves to slot k.
///
///     gather             into other memory, any layout to any layout of the same elements; the source is unchanged
///     compact_in_place   inside the same memory; sources never precede destinations (retained[k] >= k), so a forward
///                        pass is safe, stable, and leaves the front of every row dense
///     swap_fill          inside the same memory with the fewest moves: only retained entries from the back go, into
///                        the holes of the front; slots lose their order, so a token order is kept beside them
///
/// All move keys and values byte by byte and any number of sides along, in one call. Positions stay what they were: an
/// engine that keeps original positions passes them as a side array:
///
/// @code
/// status s = compact_in_place(cpu{}, view, kept, side(positions, layout));
/// if (s.ok()) retained_lengths(kept, lengths);
/// @endcode
namespace kvevict {

/// A per-slot array that moves along with keys and values: positions, value norms, scores, scales. One element per
/// slot; `dim` of the layouts is not used.
template <class T>
struct side_array {
  static_assert(std::is_trivially_copyable_v<T>);
  using element = T;
  const T* from = nullptr;
  strided from_layout{};
  T* to = nullptr;
  strided to_layout{};

  [[nodiscard]] constexpr status check() const {
    if (from != nullptr && to != nullptr) return {};
    return {status_code::bad_pointer, "side", "a side array is null"};
  }
  /// Element `source` of a row goes to `target`.
  constexpr void move(const row_id& row, index_t source, index_t target) const {
    to[to_layout.offset(row, target, 0)] = from[from_layout.offset(row, source, 0)];
  }
};

/// What moves along with keys and values. Either it moves slot by slot, as a `side_array` does, or it follows a row's
/// retained slots as a whole: `retain(row, retained)`, as a decode state does. Or it is `turned_keys`
/// (compact/rope.hpp). One that knows its extents has `fits(cache)`, which says whether they are the cache's.
template <class S>
concept slot_side = requires(const S& s, const row_id& row, index_t slot, const span<const index_t>& retained) {
  { s.check() } -> std::same_as<status>;
  requires requires { s.move(row, slot, slot); } || requires {
    s.retain(row, retained);
  } || std::is_same_v<S, turned_keys>;
};

/// A side array that stays in its own memory.
template <class T>
[[nodiscard]] constexpr side_array<T> side(T* data, const strided& layout) {
  return {data, layout, data, layout};
}
/// A side array that goes to other memory.
template <class T>
[[nodiscard]] constexpr side_array<T> side(const T* from, const strided& from_layout, std::type_identity_t<T>* to,
                                           const strided& to_layout) {
  return {from, from_layout, to, to_layout};
}

/// lengths[r] = retained slots of row r: what the engine's lengths become after a compaction.
constexpr void retained_lengths(const selection& kept, index_t* lengths) {
  for (index_t r = 0; r < kept.rows(); ++r) lengths[r] = static_cast<index_t>(kept.offsets[r + 1] - kept.offsets[r]);
}

/// Offsets [rows + 1] of a `flat` cache that holds the selection with room for `slack` more slots per row.
constexpr void flat_offsets(const selection& kept, index_t slack, offset_t* offsets) {
  offsets[0] = 0;
  for (index_t r = 0; r < kept.rows(); ++r)
    offsets[r + 1] = offsets[r] + (kept.offsets[r + 1] - kept.offsets[r]) + slack;
}

/// A selection that belongs to this cache: one list per row, ascending, inside the row.
template <cache_view Cache>
[[nodiscard]] status check_selection_of(const Cache& cache, const selection& kept) {
  const cache_shape shape = cache.shape();
  if (kept.slots.data == nullptr || kept.offsets.data == nullptr)
    return {status_code::bad_pointer, "selection", "the selection's slots or offsets are null"};
  if (kept.offsets.size() != shape.rows() + 1 || kept.offsets[0] != 0)
    return {status_code::bad_shape, "selection", "the selection needs rows + 1 offsets, the first of them 0"};
  for (row_id row; shape.has(row); row = shape.after(row)) {
    const index_t length = cache.length(row);
    const offset_t begin = kept.offsets[row.index], end = kept.offsets[row.index + 1];  // begin: 0 or the end before
    if (end < begin || end > kept.slots.size() || end - begin > length)
      return {status_code::bad_shape, "selection", "the offsets of the selection do not fit the cache"};
    index_t next = 0;
    for (const index_t slot : kept[row.index]) {
      if (slot < next || slot >= length)
        return {status_code::bad_shape, "selection", "retained slots must ascend and lie inside their row"};
      next = slot + 1;
    }
  }
  return {};
}

namespace detail {

template <class Cache, class Side>
[[nodiscard]] status check_side(const Cache& cache, const Side& side) {
  if (const status s = side.check(); !s.ok()) return s;
  if constexpr (requires { side.fits(cache); }) return side.fits(cache);
  return check_turn(cache.keys().dims(), side);
}
template <class Cache, class... Sides>
[[nodiscard]] status check_sides(const Cache& cache, const Sides&... sides) {
  static_assert((0 + ... + turns_keys<Sides>) <= 1, "kvevict: keys turn once");
  status result{};
  static_cast<void>(((result = check_side(cache, sides), result.ok()) && ...));
  return result;
}

}  // namespace detail

}  // namespace kvevict
