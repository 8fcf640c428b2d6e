// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/score/attention.hpp>

/// The columns of many query rows, as when all rows count (H2O): they stream through shared memory past the keys of a
/// tile, which stay in registers.
///
///     stage        chunk 0 | chunk 1 | chunk 2 | chunk 3 | chunk 4 ...
///     multiplied      c                                              all threads
///     copied                             c + 2                       all threads, while c is multiplied
///
/// A thread starts its copies of the chunk after the next, multiplies, and then, its copies being done, arrives at the
/// barrier of their stage. Who has waited there knows that the chunk is whole, and that all have left the chunk two
/// before it, whose stage is the next to be overwritten. So the warpgroups may be a chunk apart, and one multiplies
/// while the other one takes exponentials. No thread is set apart for copies: a chunk costs each of them a few, and
/// registers are the scarcer.
namespace kvevict::detail {

/// The chunks some of whose query rows see the tile, tile after tile of a block.
template <class Task>
struct chunk_walk {
  const Task& task;
  const attention_row& row;
  index_t columns, threads, tiles;
  bool weighs_all;
  index_t tile, first = 0, first_row = 0;
  column_place place{};  ///< of the first column

  [[nodiscard]] KVEVICT_HOST_DEVICE bool ended() const { return tile >= tiles; }
  [[nodiscard]] KVEVICT_HOST_DEVICE index_t slot() const { return tile * threads; }
  /// A tile begins.
  KVEVICT_HOST_DEVICE void begin() {
    if (ended()) return;
    const index_t rows_before = task.positions_of_row(row.id)(slot()) - task.position(row, 0);
    first_row = weighs_all ? 0 : greatest(0, least(rows_before, row.rows - 1));
    first = first_row / columns * columns;
    place = {0, first};
  }
  /// To the next chunk; whether it is the first of a tile.
  KVEVICT_HOST_DEVICE bool advance() {
    first += columns;
    if (first >= row.columns) {
      tile += task.blocks_per_row;
      begin();
      return true;
    }
    const index_t head = first / row.per_head, seeing = head * row.per_head + first_row;
    first = greatest(first, seeing / columns * columns);
    place = {head, first - head * row.per_head};
    return false;
  }
};

/// Shared memory of `attention_stream` in bytes, by the threads of a block.
template <class Products>
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr offset_t attention_stream_bytes(int threads) {
  return Products::shared_bytes(threads) + held_terms_bytes(Products::stages * Products::columns) +
         Products::stages * static_cast<offset_t>(sizeof(std::uint64_t));
}

/// The kernel: what `attention_columns` does, where the columns are more than are held at once.
template <class Products, class Block, class Task>
KVEVICT_HOST_DEVICE void attention_stream(Block& b, const Task& task) {
  constexpr index_t stages = Products::stages, columns = Products::columns, ahead = 2;
  static_assert(stages == 2 * ahead);
  const index_t row_index = b.index() / task.blocks_per_row, part = b.index() % task.blocks_per_row;
  const attention_row row = task.row(row_index);
  auto products = Products::template on<Block>::take(b);
  const auto terms = held_terms<Block>::take(b, stages * columns);
  const auto whole = b.split_barriers(stages);
  column_sums<Block, Task> result = column_sums<Block, Task>::take(b);
  const float scale = task.plain_scale();
  // Of the chunk that is copied next, the column of a thread:
  auto place = b.template make_local<column_place>();
  auto log_sum = b.template make_local<float>();

  b.each([&](int t) {
    if (t < stages) b.start_barrier(t, whole, t);
  });
  b.sync();
  const index_t tiles = (row.length + b.threads() - 1) / b.threads();
  chunk_walk<Task> now{task, row, columns, b.threads(), tiles, result.weighs_all(task), part};
  now.begin();
  if (now.ended()) return;
  chunk_walk<Task> next = now;
  products.expect_keys(b, task, row, now.slot());

  const auto ask = [&] {
    b.each([&](int t) {
      if (t >= columns || next.ended()) return;
      place[t] = next.place;
      place[t].advance(row, t);
      log_sum[t] = log_sum_of(task, row, next.first + t, place[t]);
    });
  };
  const auto start_copies = [&](index_t stage) {
    products.expect_queries(b, task, row, next.first, next.place, stage);
    const auto other = b.shuffle_xor(log_sum, 1);
    b.each([&](int t) {
      if (t < columns) terms.store(t, stage * columns + t, task.terms(row, place[t], log_sum[t]), other[t]);
    });
    next.advance();
    ask();
  };
  const auto end_copies = [&](index_t stage) {
    b.copies_done();
    b.wgmma_fence_stores();
    b.each([&](int t) { b.arrive(t, whole, stage); });
  };

  ask();
  KVEVICT_ROLLED for (index_t stage = 0; stage < ahead && !next.ended(); ++stage) {
    start_copies(stage);
    end_copies(stage);
  }
  bool tile_begins = true;
  KVEVICT_ROLLED for (index_t number = 0; !now.ended(); number = (number + 1) % (2 * stages)) {
    const index_t stage = number % stages, later = (number + ahead) % stages;
    if (tile_begins) {
      const index_t after = now.tile + task.blocks_per_row;
      products.hold_keys(b, task, row, now.slot(), after < tiles ? after * b.threads() : -1);
      b.each([&](int t) { result.begin(t, task, row, now.slot()); });
    }
    b.wait(whole, stage, number / stages);
    const bool more = !next.ended();
    if (more) start_copies(later);
    products.stage = stage;
    add_columns<Products>(products, b, task, row, terms, stage * columns,
                          column_chunk::of(row, now.first, columns, now.place), now.slot(), scale, result);
    if (more) end_copies(later);
    tile_begins = now.advance();
  }
}

}  // namespace kvevict::detail
