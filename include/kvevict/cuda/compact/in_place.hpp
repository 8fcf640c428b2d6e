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

/// The kernel: slides one part of the keys, the values or a side array of one row.
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
template <class Block, class Moved>
KVEVICT_HOST_DEVICE void compact_rows(Block& b, const in_place_task<Moved>& task) {
  const index_t parts = task.moved.parts();
  const row_id row = task.shape.row(b.index() / parts);
  const index_t part = b.index() % parts, count = task.kept.count(row.index);
  if (count < 1) return;
  const auto turns = take_turn_table(b, task.moved);
  task.moved.each([&](const auto& m, index_t before) {
    if (part < before || part >= before + m.parts()) return;
    const index_t first_piece = (part - before) * m.per_part;
    by_pieces(m, [&]<class Piece>(const Piece&) {
      auto entries = hold<Piece>(b, m, row, task.kept, least(first_piece + m.per_part, m.pieces), turns);
      const offset_t step = entries.at_once();
      KVEVICT_ROLLED for (index_t first = first_piece; first < entries.last_piece; first += m.lanes()) {
        KVEVICT_ROLLED for (offset_t start = 0; start < count; start += step) {
          if (entries.stay(least<offset_t>(start + step, count) - 1)) continue;
          entries.read(start, first);
          b.sync();
          entries.write(start, first);
        }
      }
    });
  });
}

}  // namespace kvevict::detail
