// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/compact/turned.hpp>

/// Keys that turn where they lie, some blocks per row. One source for the device and for tests (detail/block.hpp).
namespace kvevict::detail {

/// What the kernel works on. All memory is the device's.
template <class Cache, class Moved>
struct rotate_task {
  Cache cache;  ///< only its lengths are read
  moved_list<Moved> keys;
  index_t shares = 1;  ///< blocks of a row

  [[nodiscard]] constexpr offset_t blocks() const { return cache.shape().rows() * shares; }
};

/// The kernel: turns the share of a row that the block has. A thread reads and writes its pairs of pieces, no other's.
template <class Block, class Cache, class Moved>
KVEVICT_HOST_DEVICE void rotate_rows(Block& b, const rotate_task<Cache, Moved>& task) {
  const row_id row = task.cache.shape().row(b.index() / task.shares);
  const index_t share = b.index() % task.shares, count = task.cache.length(row);
  const auto turns = take_turn_table(b, task.keys);
  by_pieces(task.keys.first, [&]<class Piece>(const Piece&) {
    const Moved& m = task.keys.first;
    turning_hand<Piece, Block, Moved, decltype(turns)> keys{
        b, m, row, nullptr, nullptr, nullptr, count, m.pieces, turns, b.template make_local<piece_pair<Piece>>()};
    move_entries(keys, share, task.shares);
  });
}

}  // namespace kvevict::detail
