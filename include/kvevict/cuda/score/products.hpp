// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/score/attention_task.hpp>
#include <utility>

/// Three ways to multiply the keys of a block with the queries of a step, behind one interface: general_products.hpp
/// for all that reads as numbers, mma_products.hpp and wgmma_products.hpp for what lies as tensor cores want it.
///
///     columns                                 of the queries that are held at once
///     shared_bytes(threads)                   of the block
///     tiles_for_sums, tiles_for_columns       of a step, which is what a warp multiplies before it looks: more of
///                                             them keep the tensor cores busier and take more registers
///     sums_ahead, columns_ahead               whether a step is multiplied while the one before it is looked at
///     on<Block>::take(b)                      its memory
///     hold_queries(b, task, row, first)       the queries of the columns from `first`; all threads have come before
///                                             and come after
///     expect_keys(b, task, row, first)        which keys will be held first
///     hold_keys(b, task, row, first, next)    the keys of the slots from `first`, one slot per thread of the block;
///                                             those from `next` will be held next, none where it is negative
///     multiply(b, task, row, first, step, s)  s = products of these keys and the columns from `first + step`, a step;
///                                             or `start(b, step, s)`, and s has them after
///                                             `finish<later starts>(b, s)`
///
/// A warp has 32 slots, and lane 4 g + t of it the products of the slots g, g + 8, g + 16, g + 24 (two fragments of
/// mma_sums) with columns 2t and 2t + 1 of every tile. Slots beyond the row repeat its last one.
namespace kvevict::detail {

/// The products of a thread, in `Tiles` tiles.
template <class Block, int Tiles>
struct product_sums {
  static constexpr int columns = Tiles * tile_columns;
  typename Block::template local<mma_sums> x[2][std::size_t{Tiles}];

  KVEVICT_HOST_DEVICE static product_sums take(Block& b) {
    product_sums s;
    KVEVICT_UNROLLED for (int m = 0; m < 2; ++m) {
      KVEVICT_UNROLLED for (int n = 0; n < Tiles; ++n) s.x[m][n] = b.template make_local<mma_sums>();
    }
    return s;
  }
  KVEVICT_HOST_DEVICE void clear(int t) {
    KVEVICT_UNROLLED for (int m = 0; m < 2; ++m) {
      KVEVICT_UNROLLED for (int n = 0; n < Tiles; ++n) x[m][n][t] = mma_sums{};
    }
  }
  /// Product of slot `k` of the thread's four and column `i` of its two of tile `n`.
  [[nodiscard]] KVEVICT_HOST_DEVICE float of(int t, int k, int n, int i) const {
    return x[k / 2][n][t].x[k % 2 * 2 + i];
  }
};

/// Calls use(step, products) for the steps of `count` columns from `first`, which are held.
template <int Tiles, bool Ahead, class Products, class Block, class Task, class Use>
KVEVICT_HOST_DEVICE void each_step(Products& products, Block& b, const Task& task, const attention_row& row,
                                   index_t first, index_t count, const Use& use) {
  constexpr index_t columns = product_sums<Block, Tiles>::columns;
  if constexpr (Ahead) {  // one step is looked at while the next is multiplied
    constexpr int steps = Products::held / columns;
    product_sums<Block, Tiles> sums[2] = {product_sums<Block, Tiles>::take(b), product_sums<Block, Tiles>::take(b)};
    products.start(b, 0, sums[0]);
    KVEVICT_UNROLLED for (int i = 0; i < steps; ++i) {
      if (i + 1 < steps) {
        products.start(b, (i + 1) * columns, sums[(i + 1) % 2]);
        products.template finish<1>(b, sums[i % 2]);
      } else {
        products.template finish<0>(b, sums[i % 2]);
      }
      if (i * columns < count) use(i * columns, sums[i % 2]);
    }
  } else {
    auto sums = product_sums<Block, Tiles>::take(b);
    KVEVICT_ROLLED for (index_t step = 0; step < count; step += columns) {
      products.multiply(b, task, row, first, step, sums);
      use(step, sums);
    }
  }
}

/// The k-th of four slots of a thread, counted from the first of its block.
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr int slot_of_thread(int thread, int k) {
  return thread / warp_threads * warp_threads + thread % warp_threads / 4 + 8 * k;
}

}  // namespace kvevict::detail
