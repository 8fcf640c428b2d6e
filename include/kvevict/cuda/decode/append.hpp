// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/compact/gather.hpp>

/// New entries behind those of a row, a block per row. One source for the device and for tests (detail/block.hpp).
namespace kvevict::detail {

/// What the kernel works on. All memory is the device's.
template <class Added, class Moved>
struct append_task {
  Added added;  ///< its lengths are read
  Moved moved;
  index_t* lengths = nullptr;  ///< [rows]
};

/// Entry i goes to place `first` + i.
template <class Piece, class Block, class Moved>
KVEVICT_HOST_DEVICE void copy_behind(Block& b, const Moved& m, const row_id& row, index_t first, index_t count) {
  const offset_t pieces = static_cast<offset_t>(count) * m.pieces;
  b.each([&](int t) {
    KVEVICT_ROLLED for (offset_t i = t; i < pieces; i += b.threads()) {
      const auto entry = static_cast<index_t>(i / m.pieces), dim = static_cast<index_t>(i % m.pieces) * m.piece_dims;
      b.store(t, m.target().at(row, first + entry, dim), b.template load<Piece>(t, m.from.at(row, entry, dim)));
    }
  });
}

/// The kernel: a row without room for all of its new entries gets none, and its length stays.
template <class Block, class Task>
KVEVICT_HOST_DEVICE void append_row(Block& b, const Task& task) {
  const row_id row = task.added.shape().row(b.index());
  auto length = b.template make_local<index_t>();
  b.each([&](int t) { length[t] = b.template load<index_t>(t, task.lengths + row.index); });
  const index_t first = b.uniform(length), count = task.added.length(row);
  if (count < 1 || first < 0 || first > most_slots - count) return;
  bool fits = true;
  task.moved.each([&](const auto& m, index_t) { fits = fits && has_room_for(m, row, first + count); });
  if (!fits) return;
  task.moved.each([&](const auto& m, index_t) {
    by_pieces(m, [&]<class Piece>(const Piece&) { copy_behind<Piece>(b, m, row, first, count); });
  });
  b.sync();
  b.each([&](int t) {
    if (t == 0) b.store(t, task.lengths + row.index, first + count);
  });
}

}  // namespace kvevict::detail
