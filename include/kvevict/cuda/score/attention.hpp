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
  return Products::shared_bytes + Products::columns * static_cast<offset_t>(sizeof(column_terms) + 2 * sizeof(float)) +
         4 * static_cast<offset_t>(sizeof(float)) * (threads / warp_threads) * tiles_for_sums * tile_columns;
}

/// The kernel: the maxima and sums of every query row over the tiles of the block.
template <class Products, class Block, class Task>
KVEVICT_HOST_DEVICE void attention_sums(Block& b, const Task& task) {
  const index_t row_index = b.index() / task.blocks_per_row, part = b.index() % task.blocks_per_row;
  const attention_row row = task.row(row_index);
  auto products = Products::template on<Block>::take(b);
  auto sums = product_sums<Block, tiles_for_sums>::take(b);
  constexpr int step_columns = decltype(sums)::columns;
  const int warps = b.threads() / warp_threads;
  const auto terms = b.template shared<column_terms>(Products::columns);
  const auto peaks = b.template shared<float>(Products::columns), masses = b.template shared<float>(Products::columns);
  // Of the warps, twice: while one step's are read the next step's are written.
  const offset_t of_step = static_cast<offset_t>(warps) * step_columns;
  const auto warp_peaks = b.template shared<float>(2 * of_step), warp_masses = b.template shared<float>(2 * of_step);
  auto softmax = step_softmax<Block>::take(b);
  int turn = 0;

  KVEVICT_ROLLED for (index_t first = 0; first < row.columns; first += Products::columns) {
    b.sync();
    const index_t count = least(Products::columns, row.columns - first);
    const index_t tiles = (task.visible_to(row, first, first + count) + b.threads() - 1) / b.threads();
    hold_terms(b, task, row, first, Products::columns, false, terms);
    products.hold_queries(b, task, row, first);
    b.each([&](int t) {
      KVEVICT_ROLLED for (index_t i = t % step_columns; i < count && t < step_columns; i += step_columns) {
        peaks.store(t, i, joined_sum{}.peak);
        masses.store(t, i, 0);
      }
    });
    b.sync();
    KVEVICT_ROLLED for (index_t tile = part; tile < tiles; tile += task.blocks_per_row) {
      const index_t slot = tile * b.threads();
      products.hold_keys(b, task, row, slot);
      KVEVICT_ROLLED for (index_t step = 0; step < count; step += step_columns) {
        products.multiply(b, task, row, first, step, sums);
        softmax.sum(b, sums, terms, step, slot);
        b.each([&](int t) {
          if (t / 4 % 2 != 0) return;
          const offset_t at = turn * of_step + t / warp_threads * step_columns + softmax.column(t);
          warp_peaks.store(t, at, softmax.peak[0][t]);
          warp_masses.store(t, at, softmax.mass[0][t]);
        });
        b.sync();
        b.each([&](int t) {  // always the same thread for a column
          if (t >= step_columns || step + t >= count) return;
          joined_sum sum{peaks.load(t, step + t), masses.load(t, step + t)};
          KVEVICT_ROLLED for (int w = 0; w < warps; ++w) {
            const offset_t at = turn * of_step + w * step_columns + t;
            sum.add(warp_peaks.load(t, at), warp_masses.load(t, at));
          }
          peaks.store(t, step + t, sum.peak);
          masses.store(t, step + t, sum.mass);
        });
        turn = 1 - turn;
      }
    }
    b.each([&](int t) {
      KVEVICT_ROLLED for (index_t i = t % step_columns; i < count && t < step_columns; i += step_columns) {
        const offset_t at = task.parts.at(row_index, part, first + i);
        task.parts.peak[at] = peaks.load(t, i);
        task.parts.mass[at] = masses.load(t, i);
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

/// Shared memory of `attention_columns` in bytes.
template <class Products>
inline constexpr offset_t attention_columns_bytes = Products::shared_bytes +
                                                    Products::columns* static_cast<offset_t>(sizeof(column_terms));

/// The kernel: out[query_head][slot] = norm * sum over the query rows of weight * a[query row, slot], for the tiles of
/// the block.
template <class Products, class Block, class Task>
KVEVICT_HOST_DEVICE void attention_columns(Block& b, const Task& task) {
  const index_t row_index = b.index() / task.blocks_per_row, part = b.index() % task.blocks_per_row;
  const attention_row row = task.row(row_index);
  auto products = Products::template on<Block>::take(b);
  auto sums = product_sums<Block, tiles_for_columns>::take(b);
  const auto terms = b.template shared<column_terms>(Products::columns);
  column_sums<Block, Task> result = column_sums<Block, Task>::take(b);
  index_t held = -1;  // the chunk of columns whose queries are held

  const index_t tiles = (row.length + b.threads() - 1) / b.threads();
  KVEVICT_ROLLED for (index_t tile = part; tile < tiles; tile += task.blocks_per_row) {
    const index_t slot = tile * b.threads();
    products.hold_keys(b, task, row, slot);
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
      KVEVICT_ROLLED for (index_t step = 0; step < count; step += decltype(sums)::columns) {
        products.multiply(b, task, row, first, step, sums);
        KVEVICT_UNROLLED for (int n = 0; n < tiles_for_columns; ++n) {
          b.each([&](int t) { result.add(t, sums, terms, n, step, slot); });
          left -= tile_columns;
          if (left == 0 && head < task.group_size) {  // a step may have more tiles than there are
            result.write(b, task, row, head, slot);
            ++head;
            left = row.per_head;
          }
        }
      }
    }
  }
}

}  // namespace kvevict::detail
