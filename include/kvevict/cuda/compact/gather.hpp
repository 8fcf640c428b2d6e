// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/compact/turned.hpp>

/// Retained entries into other memory, some blocks per row. One source for the device and for tests (detail/block.hpp).
namespace kvevict::detail {

/// What the kernel works on. All memory is the device's.
template <class Moved>
struct gather_task {
  cache_shape shape;
  row_moves kept;
  Moved moved;
  index_t shares = 1;  ///< blocks of a row

  [[nodiscard]] constexpr offset_t blocks() const { return shape.rows() * shares; }
};

/// Blocks that share a row: how long rows are, the host does not know, so it is no more than the longest possible row
/// can use and, in all rows together, enough for a large device even if most entries are those of few rows.
[[nodiscard]] constexpr index_t shares_of(offset_t rows, offset_t room) {
  constexpr offset_t wanted = 4096, entries_of_block = 64;
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

/// The kernel: moves the share of a row that the block has. Nothing waits for anything, because no entry is read that
/// another one goes to: source and target do not overlap, or (swap-fill) lie on both sides of the new end of the row.
template <class Block, class Moved>
KVEVICT_HOST_DEVICE void gather_rows(Block& b, const gather_task<Moved>& task) {
  const row_id row = task.shape.row(b.index() / task.shares);
  const index_t share = b.index() % task.shares, count = task.kept.count(row.index);
  if (count < 1) return;
  bool fits = true;
  task.moved.each([&](const auto& m, index_t) { fits = fits && has_room_for(m, row, count); });
  if (!fits) return;
  const auto turns = take_turn_table(b, task.moved);
  task.moved.each([&](const auto& m, index_t) {
    by_pieces(m, [&]<class Piece>(const Piece&) {
      auto entries = hold<Piece>(b, m, row, task.kept, m.pieces, turns);
      move_share(entries, share, task.shares);
    });
  });
}

}  // namespace kvevict::detail
