// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/compact/in_place.hpp>

/// Retained entries into other memory, some blocks per row. One source for the device and for tests (detail/block.hpp).
namespace kvevict::detail {

/// What the kernel works on. All memory is the device's.
template <class Moved>
struct gather_task {
  cache_shape shape;
  row_moves kept;
  Moved moved;
  index_t shares = 1;  ///< blocks of a row
  bool swaps = false;  ///< entries of the tail go into the holes before it

  [[nodiscard]] constexpr offset_t blocks() const { return shape.rows() * shares; }
};

/// Blocks that share a row: how long rows are, the host does not know, so it is no more than the longest possible row
/// can use and, in all rows together, enough for a large device even if most entries are those of few rows.
[[nodiscard]] constexpr index_t shares_of(offset_t rows, offset_t room) {
  constexpr offset_t wanted = 4096, entries_of_block = 128;
  const offset_t useful = (room + entries_of_block - 1) / entries_of_block;
  return static_cast<index_t>(greatest<offset_t>(1, least(wanted / rows, useful)));
}

/// Whether the layout of the target has room for all that a row retains.
template <class Moved>
[[nodiscard]] KVEVICT_HOST_DEVICE bool has_room_for(const Moved& m, const row_id& row, index_t count) {
  if constexpr (requires { m.target().layout.capacity(row); })
    return count <= m.target().layout.capacity(row);
  else
    return true;
}

/// Whether it is a side array that stays in its own memory, while keys and values go elsewhere.
template <class Moved>
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr bool stays_where_it_is(const Moved&) {
  return false;
}
template <class T>
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr bool stays_where_it_is(
    const moved<side_entries<const T>, side_entries<T>>& m) {
  return m.from.data == m.to.data && m.from.layout == m.to.layout;
}

/// The block's share of the entries of a row.
template <class Block, class Moved, class Table>
KVEVICT_HOST_DEVICE void move_share(Block& b, const Moved& m, const row_id& row, const row_moves& kept, index_t share,
                                    index_t shares, bool swaps, const Table& turns) {
  if constexpr (requires { m.retain(b, row, kept); }) {
    if (share == 0) m.retain(b, row, kept);
  } else if (!swaps && stays_where_it_is(m)) {
    if (share == 0) slide_part(b, m, row, kept, 0, turns);
  } else {
    by_pieces(m, [&]<class Piece>(const Piece&) {
      auto entries = hold<Piece>(b, m, row, kept, m.pieces, turns);
      move_entries(entries, share, shares);
    });
  }
}

/// The kernel: moves the share of a row that the block has. Nothing waits for anything, because no entry is read that
/// another one goes to: source and target do not overlap, or (swap-fill) lie on both sides of the new end of the row.
/// Only a side array that stays in its own memory slides there, and one block of the row slides it.
template <class Block, class Moved>
KVEVICT_HOST_DEVICE void gather_rows(Block& b, const gather_task<Moved>& task) {
  const row_id row = task.shape.row(b.index() / task.shares);
  const index_t share = b.index() % task.shares, count = task.kept.count(row.index);
  if (!task.kept.has(row.index)) return;
  bool fits = true;
  task.moved.each([&](const auto& m, index_t) { fits = fits && has_room_for(m, row, count); });
  if (!fits) return;
  const auto turns = take_turn_table(b, task.moved);
  task.moved.each(
      [&](const auto& m, index_t) { move_share(b, m, row, task.kept, share, task.shares, task.swaps, turns); });
}

}  // namespace kvevict::detail
