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

/// The log-sum-exp of a column: given, or what `attention_sums` found.
template <class Task>
[[nodiscard]] KVEVICT_HOST_DEVICE float log_sum_of(const Task& task, const attention_row& row, index_t column,
                                                   const column_place& place) {
  if constexpr (Task::known) {
    return task.given_log_sum(row, place);
  } else {
    float log_sum = 0;
    task.with_query(row, place, [&](const row_id&, index_t) {
      log_sum = task.parts.joined ? task.parts.peak[task.parts.at(row.id.index, 0, column)]
                                  : join_parts(task.parts, row.id.index, column, task.parts.parts).log_sum();
    });
    return log_sum;
  }
}

/// The terms of `count` columns from `first`, an even number. All threads come before and after.
template <class Block, class Task>
KVEVICT_HOST_DEVICE void hold_terms(Block& b, const Task& task, const attention_row& row, index_t first, index_t count,
                                    bool with_sums, const held_terms<Block>& terms) {
  b.each([&](int t) {
    KVEVICT_ROLLED for (index_t i = 2 * t; i < count; i += 2 * b.threads()) {
      const column_place place[] = {column_place::of(row, first + i), column_place::of(row, first + i + 1)};
      float log_sum[2] = {0, 0};
      if (with_sums) {
        KVEVICT_UNROLLED for (int k = 0; k < 2; ++k) log_sum[k] = log_sum_of(task, row, first + i + k, place[k]);
      }
      KVEVICT_UNROLLED for (int k = 0; k < 2; ++k) {
        terms.store(t, i + k, task.terms(row, place[k], log_sum[k]), log_sum[1]);
      }
    }
  });
}

/// Shared memory of `attention_sums` in bytes, by the threads of a block.
template <class Products>
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr offset_t attention_sums_bytes(int threads) {
  const auto sums_of_warps = 2 * static_cast<offset_t>(sizeof(float)) * (threads / warp_threads);
  return Products::shared_bytes(threads) + held_terms_bytes(Products::columns) + Products::columns * sums_of_warps;
}

/// The maxima and sums of every query row of `row` over every blocks_per_row-th tile from `part`. Every warp has its
/// own, which only one of its threads touches, until all tiles have been seen.
template <class Products, class Block, class Task>
KVEVICT_HOST_DEVICE void attention_sums(Block& b, const Task& task, const attention_row& row, index_t part) {
  auto products = Products::template on<Block>::take(b);
  const int warps = b.threads() / warp_threads;
  const auto terms = held_terms<Block>::take(b, Products::columns);
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
          softmax.sum(b, sums, n, terms.terms, from, slot);
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
        const offset_t at = task.parts.at(row.id.index, part, first + i);
        task.parts.peak[at] = sum.peak;
        task.parts.mass[at] = sum.mass;
      }
    });
  }
}

/// The kernel: those of the tiles of the block.
template <class Products, class Block, class Task>
KVEVICT_HOST_DEVICE void attention_sums(Block& b, const Task& task) {
  attention_sums<Products>(b, task, task.row(b.index() / task.blocks_per_row), b.index() % task.blocks_per_row);
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

/// A chunk of columns, and where the first of them is: `left` columns of the query_head `head` from there on.
struct column_chunk {
  index_t first, count, head, left;

  [[nodiscard]] KVEVICT_HOST_DEVICE static column_chunk of(const attention_row& row, index_t first, index_t columns,
                                                           const column_place& place) {
    return {first, least(columns, row.columns - first), place.head, row.per_head - place.i};
  }
  /// Whether all of them are query rows that see all slots before `end`.
  template <class Task>
  [[nodiscard]] KVEVICT_HOST_DEVICE bool see_all(const Task& task, const attention_row& row, index_t end) const {
    const bool of_one_head = count <= left;
    const index_t oldest = of_one_head ? row.per_head - left : 0;
    if (row.rows < (of_one_head ? oldest + count : row.per_head)) return false;
    return task.positions_of_row(row.id)(least(end, row.length) - 1) <= task.position(row, oldest);
  }
};

/// Adds to the slots of a tile what they receive from a chunk, which is held and whose terms start at `at`; and writes
/// the sums of the heads that end in it. `scale` is the task's plain one.
template <class Held, class Products, class Block, class Task>
KVEVICT_HOST_DEVICE void add_columns(Products& products, Block& b, const Task& task, const attention_row& row,
                                     const held_terms<Block>& terms, index_t at, column_chunk c, index_t slot,
                                     float scale, column_sums<Block, Task>& result) {
  const bool all_seen = result.simple && c.see_all(task, row, slot + b.threads());
  const auto pass = [&](index_t columns) {
    c.left -= columns;
    if (c.left != 0) return;
    result.write(b, task, row, c.head, slot);
    ++c.head;
    c.left = row.per_head;
  };
  const auto use = [&](index_t step, const auto& sums) {
    constexpr int tiles = Held::tiles_for_columns;
    if constexpr (Held::columns_ahead) {  // else products wait for each other anyway, and registers are few
      constexpr int width = tiles * tile_columns;
      if (all_seen && step + width <= c.count && width <= c.left) {
        b.each([&](int t) { result.template add_seen<tiles>(t, sums, terms.log_sums, scale, 0, at + step); });
        pass(width);
        return;
      }
    }
    KVEVICT_UNROLLED for (int n = 0; n < tiles; ++n) {
      if (step + n * tile_columns >= c.count) continue;
      b.each([&](int t) {
        if (all_seen)
          result.template add_seen<1>(t, sums, terms.log_sums, scale, n, at + step);
        else
          result.add(t, sums, terms.terms, n, at + step, slot);
      });
      pass(tile_columns);
    }
  };
  each_step<Held::tiles_for_columns, Held::columns_ahead>(products, b, task, row, c.first, c.count, use);
}

/// Shared memory of `attention_columns` in bytes, by the threads of a block.
template <class Products>
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr offset_t attention_columns_bytes(int threads) {
  return Products::shared_bytes(threads) + held_terms_bytes(Products::columns);
}

/// out[query_head][slot] = norm * sum over the query rows of weight * a[query row, slot], or what the group gets of it
/// (columns.hpp), for every blocks_per_row-th tile of `row` from `part`.
template <class Products, class Block, class Task>
KVEVICT_HOST_DEVICE void attention_columns(Block& b, const Task& task, const attention_row& row, index_t part) {
  auto products = Products::template on<Block>::take(b);
  const auto terms = held_terms<Block>::take(b, Products::columns);
  column_sums<Block, Task> result = column_sums<Block, Task>::take(b);
  index_t held = -1;  // the chunk of columns whose queries are held
  const float scale = task.plain_scale();

  const index_t tiles = (row.length + b.threads() - 1) / b.threads();
  if (part < tiles) products.expect_keys(b, task, row, part * b.threads());
  KVEVICT_ROLLED for (index_t tile = part; tile < tiles; tile += task.blocks_per_row) {
    const index_t slot = tile * b.threads(), next = tile + task.blocks_per_row;
    products.hold_keys(b, task, row, slot, next < tiles ? next * b.threads() : -1);
    b.each([&](int t) { result.begin(t, task, row, slot); });
    column_place place{0, 0};
    KVEVICT_ROLLED for (index_t first = 0; first < row.columns; first += Products::columns) {
      const column_chunk c = column_chunk::of(row, first, Products::columns, place);
      if (first + Products::columns < row.columns) place.advance(row, Products::columns);
      if (c.count < c.left && !result.weighs_all(task) && task.visible_to(row, first, first + c.count) <= slot)
        continue;  // none of these query rows sees the tile
      if (held != first) {
        b.sync();
        hold_terms(b, task, row, first, Products::columns, true, terms);
        products.hold_queries(b, task, row, first);
        b.sync();
        held = first;
      }
      add_columns<Products>(products, b, task, row, terms, 0, c, slot, scale, result);
    }
  }
}

/// The kernel: for the tiles of the block.
template <class Products, class Block, class Task>
KVEVICT_HOST_DEVICE void attention_columns(Block& b, const Task& task) {
  attention_columns<Products>(b, task, task.row(b.index() / task.blocks_per_row), b.index() % task.blocks_per_row);
}

}  // namespace kvevict::detail
