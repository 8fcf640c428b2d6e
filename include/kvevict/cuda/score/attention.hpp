// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/score/column_sums.hpp>
#include <kvevict/cuda/score/products.hpp>
#include <kvevict/cuda/score/step_softmax.hpp>

/// Attention that slots received (score/attention.hpp), per query_head, from keys and queries:
///
///     attention_sums      where no log-sum-exp is given: every block's part of the softmax's sums
///     attention_join      the parts of a row become one; where many blocks share it, each would join them again
///     attention_columns   the products once more, and from them the columns
///
/// All on a grid of rows * blocks_per_row blocks; the blocks of a row take its tiles of slots by turns, as many slots
/// as a block has threads. Every word is written by one thread, and sums are taken in a fixed order: no atomics, and
/// the same bits for the same blocks_per_row and threads.
namespace kvevict::detail {

/// The terms of the columns of a chunk. All threads come before and after.
template <class Block, class Task, class Shared>
KVEVICT_HOST_DEVICE void hold_terms(Block& b, const Task& task, const attention_row& row, index_t first, index_t count,
                                    bool with_sums, const Shared& terms) {
  b.each([&](int t) {
    KVEVICT_ROLLED for (index_t i = t; i < count; i += b.threads()) {
      column_terms c = task.terms(row, first + i);
      if constexpr (!Task::known)
        if (with_sums && c.visible > 0)
          c.log_sum = task.parts.joined ? task.parts.peak[task.parts.at(row.id.index, 0, first + i)]
                                        : join_parts(task.parts, row.id.index, first + i, task.parts.parts).log_sum();
      terms.store(t, i, c);
    }
  });
}

/// Shared memory of `attention_sums` in bytes, by the threads of a block.
template <class Products>
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr offset_t attention_sums_bytes(int threads) {
  const auto sums_of_warps = 2 * static_cast<offset_t>(sizeof(float)) * (threads / warp_threads);
  return Products::shared_bytes(threads) +
         Products::columns * (static_cast<offset_t>(sizeof(column_terms)) + sums_of_warps);
}

/// The kernel: the maxima and sums of every query row over the tiles of the block. Every warp has its own, which only
/// one of its threads touches, until all tiles have been seen.
template <class Products, class Block, class Task>
KVEVICT_HOST_DEVICE void attention_sums(Block& b, const Task& task) {
  const index_t row_index = b.index() / task.blocks_per_row, part = b.index() % task.blocks_per_row;
  const attention_row row = task.row(row_index);
  auto products = Products::template on<Block>::take(b);
  const int warps = b.threads() / warp_threads;
  const auto terms = b.template shared<column_terms>(Products::columns);
  const auto peaks = b.template shared<float>(warps * Products::columns);
  const auto masses = b.template shared<float>(warps * Products::columns);
  auto softmax = step_softmax<Block>::take(b);

  KVEVICT_ROLLED for (index_t first = 0; first < row.columns; first += Products::columns) {
    b.sync();
    const index_t count = least(Products::columns, row.columns - first);
    const index_t tiles = (task.visible_to(row, first, first + count) + b.threads() - 1) / b.threads();
    if (part < tiles) products.expect_keys(b, task, row, part * b.threads());
    hold_terms(b, task, row, first, Products::columns, false, terms);
    products.hold_queries(b, task, row, first);
    b.each([&](int t) {
      KVEVICT_ROLLED for (index_t i = t; i < warps * Products::columns; i += b.threads()) {
        peaks.store(t, i, joined_sum{}.peak);
        masses.store(t, i, 0);
      }
    });
    b.sync();
    KVEVICT_ROLLED for (index_t tile = part; tile < tiles; tile += task.blocks_per_row) {
      const index_t slot = tile * b.threads(), next = tile + task.blocks_per_row;
      products.hold_keys(b, task, row, slot, next < tiles ? next * b.threads() : -1);
      const auto use = [&](index_t step, const auto& sums) {
        KVEVICT_UNROLLED for (int n = 0; n < Products::tiles_for_sums; n += softmax.tiles) {
          const index_t from = step + n * tile_columns;
          softmax.sum(b, sums, n, terms, from, slot);
          b.each([&](int t) {
            if (t / 4 % 2 != 0) return;
            const offset_t at = t / warp_threads * Products::columns + from + softmax.column(t);
            joined_sum sum{peaks.load(t, at), masses.load(t, at)};
            sum.add(softmax.peak[0][t], softmax.mass[0][t]);
            peaks.store(t, at, sum.peak);
            masses.store(t, at, sum.mass);
          });
        }
      };
      each_step<Products::tiles_for_sums, Products::sums_ahead>(products, b, task, row, first, count, use);
    }
    b.sync();
    b.each([&](int t) {
      KVEVICT_ROLLED for (index_t i = t; i < count; i += b.threads()) {
        joined_sum sum;
        KVEVICT_ROLLED for (int w = 0; w < warps; ++w) {
          const offset_t of_warp = w * Products::columns + i;
          sum.add(peaks.load(t, of_warp), masses.load(t, of_warp));
        }
        const offset_t at = task.parts.at(row_index, part, first + i);
        task.parts.peak[at] = sum.peak;
        task.parts.mass[at] = sum.mass;
      }
    });
  }
}

/// The kernel: the parts of the row are joined into part 0, which `softmax_parts::joined` then says.
template <class Block, class Task>
KVEVICT_HOST_DEVICE void attention_join(Block& b, const Task& task) {
  const index_t row_index = b.index() / task.blocks_per_row, part = b.index() % task.blocks_per_row;
  const attention_row row = task.row(row_index);
  b.each([&](int t) {
    KVEVICT_ROLLED for (offset_t c = static_cast<offset_t>(part) * b.threads() + t; c < row.columns;
                        c += static_cast<offset_t>(task.blocks_per_row) * b.threads()) {
      task.parts.peak[task.parts.at(row_index, 0, c)] =
          join_parts(task.parts, row_index, c, task.parts.parts).log_sum();
    }
  });
}

/// Shared memory of `attention_columns` in bytes, by the threads of a block.
template <class Products>
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr offset_t attention_columns_bytes(int threads) {
  return Products::shared_bytes(threads) + Products::columns * static_cast<offset_t>(sizeof(column_terms));
}

/// The kernel: out[query_head][slot] = norm * sum over the query rows of weight * a[query row, slot], for the tiles of
/// the block.
template <class Products, class Block, class Task>
KVEVICT_HOST_DEVICE void attention_columns(Block& b, const Task& task) {
  const index_t row_index = b.index() / task.blocks_per_row, part = b.index() % task.blocks_per_row;
  const attention_row row = task.row(row_index);
  auto products = Products::template on<Block>::take(b);
  const auto terms = b.template shared<column_terms>(Products::columns);
  column_sums<Block, Task> result = column_sums<Block, Task>::take(b);
  index_t held = -1;  // the chunk of columns whose queries are held

  const index_t tiles = (row.length + b.threads() - 1) / b.threads();
  if (part < tiles) products.expect_keys(b, task, row, part * b.threads());
  KVEVICT_ROLLED for (index_t tile = part; tile < tiles; tile += task.blocks_per_row) {
    const index_t slot = tile * b.threads(), next = tile + task.blocks_per_row;
    products.hold_keys(b, task, row, slot, next < tiles ? next * b.threads() : -1);
    b.each([&](int t) { result.clear(t); });
    index_t head = 0, left = row.per_head;  // columns until the head ends
    KVEVICT_ROLLED for (index_t first = 0; first < row.columns; first += Products::columns) {
      const index_t count = least(Products::columns, row.columns - first);
      if (count < left && !result.weighs_all(task) && task.visible_to(row, first, first + count) <= slot) {
        left -= count;  // none of these query rows sees the tile
        continue;
      }
      if (held != first) {
        b.sync();
        hold_terms(b, task, row, first, Products::columns, true, terms);
        products.hold_queries(b, task, row, first);
        b.sync();
        held = first;
      }
      const auto use = [&](index_t step, const auto& sums) {
        KVEVICT_UNROLLED for (int n = 0; n < Products::tiles_for_columns; ++n) {
          if (step + n * tile_columns >= count) continue;
          b.each([&](int t) { result.add(t, sums, terms, n, step, slot); });
          left -= tile_columns;
          if (left == 0) {
            result.write(b, task, row, head, slot);
            ++head;
            left = row.per_head;
          }
        }
      };
      each_step<Products::tiles_for_columns, Products::columns_ahead>(products, b, task, row, first, count, use);
    }
  }
}

}  // namespace kvevict::detail
