// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/score/attention_task.hpp>
#include <utility>

/// Three ways to multiply the keys of a block with the queries of a step, behind one interface: `fma_products` here,
/// and on tensor cores mma_products.hpp and wgmma_products.hpp.
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

/// In fp32, for whatever reads as numbers: any element, reader, layout and width.
struct fma_products {
  static constexpr int tiles_for_sums = 2, tiles_for_columns = 4;
  static constexpr bool sums_ahead = false, columns_ahead = false;
  static constexpr index_t columns = 128;
  static constexpr index_t dims_at_once = 128;
  static constexpr index_t most_pairs = tiles_for_columns * tile_columns / 2;
  static constexpr index_t pitch = most_pairs + 1;  // one more, against bank conflicts

  struct alignas(8) pair {
    float x[2];
  };
  [[nodiscard]] KVEVICT_HOST_DEVICE static constexpr offset_t shared_bytes(int /*threads*/) {
    return dims_at_once * pitch * sizeof(pair);
  }

  template <class Block>
  struct on {
    decltype(std::declval<Block&>().template shared<pair>(1)) queries;
    index_t first_slot = 0;

    KVEVICT_HOST_DEVICE static on take(Block& b) { return {b.template shared<pair>(dims_at_once * pitch)}; }
    template <class Task>
    KVEVICT_HOST_DEVICE void hold_queries(Block&, const Task&, const attention_row&, index_t) {}
    template <class Task>
    KVEVICT_HOST_DEVICE void expect_keys(Block&, const Task&, const attention_row&, index_t) {}
    template <class Task>
    KVEVICT_HOST_DEVICE void hold_keys(Block&, const Task&, const attention_row&, index_t first, index_t /*next*/) {
      first_slot = first;
    }
    template <class Task, int Tiles>
    KVEVICT_HOST_DEVICE void multiply(Block& b, const Task& task, const attention_row& row, index_t first, index_t step,
                                      product_sums<Block, Tiles>& sums) {
      const auto& keys = task.cache.keys();
      const index_t dims = keys.dims();
      b.each([&](int t) { sums.clear(t); });
      KVEVICT_ROLLED for (index_t from = 0; from < dims; from += dims_at_once) {
        const index_t some = least(dims_at_once, dims - from);
        b.sync();
        b.each([&](int t) {
          KVEVICT_ROLLED for (index_t i = t; i < Tiles * tile_columns / 2 * some; i += b.threads()) {
            const index_t d = i % some, p = i / some;
            pair q{};
            KVEVICT_UNROLLED for (int k = 0; k < 2; ++k) {
              task.with_query(row, first + step + 2 * p + k, [&](const row_id& head, index_t query) {
                q.x[k] = task.queries.entries(head, query, from + d);
              });
            }
            queries.store(t, d * pitch + p, q);
          }
        });
        b.sync();
        b.each([&](int t) { add(t, keys, row, from, some, sums); });
      }
    }

   private:
    template <class Keys, int Tiles>
    KVEVICT_HOST_DEVICE void add(int t, const Keys& keys, const attention_row& row, index_t from, index_t some,
                                 product_sums<Block, Tiles>& sums) const {
      KVEVICT_ROLLED for (index_t d = 0; d < some; ++d) {
        float key[4];
        KVEVICT_UNROLLED for (int k = 0; k < 4; ++k) {
          key[k] = keys(row.id, least(first_slot + slot_of_thread(t, k), row.length - 1), from + d);
        }
        KVEVICT_UNROLLED for (int n = 0; n < Tiles; ++n) {
          const pair q = queries.load(t, d * pitch + n * tile_columns / 2 + t % 4);
          KVEVICT_UNROLLED for (int k = 0; k < 4; ++k) {
            KVEVICT_UNROLLED for (int i = 0; i < 2; ++i) {
              float& sum = sums.x[k / 2][n][t].x[k % 2 * 2 + i];
              sum = std::fma(key[k], q.x[i], sum);
            }
          }
        }
      }
    }
  };
};

}  // namespace kvevict::detail
