// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/compact/turned.hpp>

/// Retained entries to the front of their own rows. One source for the device and for tests (detail/block.hpp).
namespace kvevict::detail {

/// What the kernel works on. All memory is the device's.
template <class Moved>
struct in_place_task {
  cache_shape shape;
  row_moves kept;
  Moved moved;

  [[nodiscard]] constexpr offset_t blocks() const { return shape.rows() * moved.parts(); }
};

/// Blocks that would like to share the entries of a row, so that few rows also occupy a large device. They share them
/// crosswise, each with pieces of its own of all entries: along the row one would have to wait for another.
[[nodiscard]] constexpr index_t parts_of(offset_t rows) {
  constexpr offset_t wanted = 512;
  return static_cast<index_t>(greatest<offset_t>(1, wanted / rows));
}

/// Slides the entries that the block has in its hands, the pieces from `first_piece` on.
///
/// It goes from front to back in chunks of n entries: reads chunk c, waits, writes chunk c. Entry k comes from
/// retained[k] >= k, so chunk c reads at c n or behind it and writes before (c + 1) n. Hence
///
///     writes of chunk c, reads of later chunks   the reads are at (c + 1) n or behind it: another memory
///     writes of chunk c, its reads               between them the block waits
///     writes of chunk c, reads of earlier ones   those came before an earlier wait
///
/// and one wait per chunk is enough: the next chunk may be read while this one is being written. Pieces of an entry
/// never meet, be they another block's or this one's in a later pass over the row.
template <class Block, class Hand>
KVEVICT_HOST_DEVICE void slide_entries(Block& b, Hand entries, index_t first_piece) {
  const offset_t step = entries.at_once();
  KVEVICT_ROLLED for (index_t first = first_piece; first < entries.last_piece; first += entries.m.lanes()) {
    KVEVICT_ROLLED for (offset_t start = 0; start < entries.count; start += step) {
      if (entries.stay(least<offset_t>(start + step, entries.count) - 1)) continue;
      entries.read(start, first);
      b.sync();
      entries.write(start, first);
    }
  }
}

/// One part of a row of what moves, by one block.
template <class Block, class Moved, class Table>
KVEVICT_HOST_DEVICE void slide_part(Block& b, const Moved& m, const row_id& row, const row_moves& kept, index_t part,
                                    const Table& turns) {
  if constexpr (requires { m.retain(b, row, kept); }) {
    m.retain(b, row, kept);
  } else {
    const index_t first = part * m.per_part;
    by_pieces(m, [&]<class Piece>(const Piece&) {
      slide_entries(b, hold<Piece>(b, m, row, kept, least(first + m.per_part, m.pieces), turns), first);
    });
  }
}

/// The kernel: slides one part of the keys, the values or a side of one row.
template <class Block, class Moved>
KVEVICT_HOST_DEVICE void compact_rows(Block& b, const in_place_task<Moved>& task) {
  const index_t parts = task.moved.parts();
  const row_id row = task.shape.row(b.index() / parts);
  const index_t part = b.index() % parts;
  if (!task.kept.has(row.index)) return;
  const auto turns = take_turn_table(b, task.moved);
  task.moved.each([&](const auto& m, index_t before) {
    if (part >= before && part < before + m.parts()) slide_part(b, m, row, task.kept, part - before, turns);
  });
}

}  // namespace kvevict::detail
