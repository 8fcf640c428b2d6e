// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/core/amount.hpp>
#include <kvevict/cuda/score/products.hpp>

namespace kvevict::detail {

/// Shared memory of `held_terms`.
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr offset_t held_terms_bytes(offset_t columns) {
  return columns * static_cast<offset_t>(sizeof(column_terms) + sizeof(float));
}

/// The terms of the columns that are held, and their log-sum-exps once more: where all is seen they are all it takes.
template <class Block>
struct held_terms {
  struct alignas(8) two {
    float x[2];
  };
  decltype(std::declval<Block&>().template shared<column_terms>(1)) terms;
  decltype(std::declval<Block&>().template shared<two>(1)) log_sums;

  KVEVICT_HOST_DEVICE static held_terms take(Block& b, offset_t columns) {
    const auto all = b.template shared<column_terms>(columns);
    return {all, b.template shared<two>(columns / 2)};
  }
  /// The terms of a column; an even one brings the log-sum-exps of its pair along.
  KVEVICT_HOST_DEVICE void store(int t, offset_t at, const column_terms& c, float of_next) const {
    terms.store(t, at, c);
    if (at % 2 == 0) log_sums.store(t, at / 2, {{c.log_sum, of_next}});
  }
};

/// What the four slots of a thread received from the query rows of a head so far, and what the rows weigh.
template <class Block, class Task>
struct column_sums {
  /// Whether rows weigh alike: how many see a slot then follows from its position.
  static constexpr bool alike = std::is_same_v<decltype(Task::how.weight), score::equal_rows>;

  typename Block::template local<float> received[4];
  typename Block::template local<float> weight[4];  ///< of the rows that see the slot; unused where `alike`
  typename Block::template local<float> weight_of_all;
  typename Block::template local<float> norm;   ///< where `alike`, of the slot that the thread writes
  typename Block::template local<float> heads;  ///< what the t-th slot of lane t of four got from the heads before

  KVEVICT_HOST_DEVICE static column_sums take(Block& b) {
    column_sums s;
    s.heads = b.template make_local<float>();
    if constexpr (alike) s.norm = b.template make_local<float>();
    KVEVICT_UNROLLED for (int k = 0; k < 4; ++k) {
      s.received[k] = b.template make_local<float>();
      if constexpr (!alike) s.weight[k] = b.template make_local<float>();
    }
    if constexpr (!alike) s.weight_of_all = b.template make_local<float>();
    return s;
  }
  /// Whether query rows count that see none of the slots.
  [[nodiscard]] KVEVICT_HOST_DEVICE static bool weighs_all(const Task& task) {
    return !alike && task.how.mean == score::row_mean::all;
  }
  /// A tile begins, of the slots from `slot`.
  KVEVICT_HOST_DEVICE void begin(int t, const Task& task, const attention_row& row, index_t slot) {
    clear(t);
    if constexpr (alike) norm[t] = norm_of(task, row, least(slot + slot_of_thread(t, t % 4), row.length - 1), t, 0);
  }
  KVEVICT_HOST_DEVICE void clear(int t) {
    KVEVICT_UNROLLED for (int k = 0; k < 4; ++k) {
      received[k][t] = 0;
      if constexpr (!alike) weight[k][t] = 0;
    }
    if constexpr (!alike) weight_of_all[t] = 0;
  }
  /// Adds the tile `n` of a step whose terms start at `step`, for the slots from `slot`.
  template <int Tiles, class Shared>
  KVEVICT_HOST_DEVICE void add(int t, const product_sums<Block, Tiles>& sums, const Shared& terms, int n, index_t step,
                               index_t slot) {
    KVEVICT_UNROLLED for (int i = 0; i < 2; ++i) {
      const column_terms c = terms.load(t, step + n * tile_columns + t % 4 * 2 + i);
      KVEVICT_UNROLLED for (int k = 0; k < 4; ++k) {
        const float a = exp2_fast(std::fma(sums.of(t, k, n, i), c.scale, -c.log_sum));
        const bool visible = slot + slot_of_thread(t, k) < c.visible;
        received[k][t] = std::fma(c.weight, visible ? a : 0.0F, received[k][t]);
        if constexpr (!alike) weight[k][t] += visible ? c.weight : 0.0F;
      }
      if constexpr (!alike) weight_of_all[t] += c.weight;
    }
  }
  /// Whether `add_seen` may be: all rows weigh the same, and products are scaled alike.
  static constexpr bool simple = alike && Task::plain;
  /// The same for `Count` tiles, all of whose slots are seen by all columns, none of which only fills a tile. Nothing
  /// is asked between them, so that exponentials of one are taken while others wait.
  template <int Count, int Tiles, class Shared>
  KVEVICT_HOST_DEVICE void add_seen(int t, const product_sums<Block, Tiles>& sums, const Shared& log_sums, float scale,
                                    int n, index_t step) {
    typename held_terms<Block>::two log_sum[std::size_t{Count}];
    KVEVICT_UNROLLED for (int c = 0; c < Count; ++c) {
      log_sum[c] = log_sums.load(t, (step + (n + c) * tile_columns) / 2 + t % 4);
    }
    KVEVICT_UNROLLED for (int c = 0; c < Count; ++c) {
      KVEVICT_UNROLLED for (int i = 0; i < 2; ++i) {
        KVEVICT_UNROLLED for (int k = 0; k < 4; ++k) {
          received[k][t] += exp2_fast(std::fma(sums.of(t, k, n + c, i), scale, -log_sum[c].x[i]));
        }
      }
    }
  }
  /// The head ends: its sums are divided and written, and the next one starts from zero.
  KVEVICT_HOST_DEVICE void write(Block& b, const Task& task, const attention_row& row, index_t head, index_t slot) {
    const auto sums = sums_of_quad(b, received);
    auto weights = sums;
    if constexpr (!alike) {
      weights = sums_of_quad(b, weight);
      KVEVICT_UNROLLED for (int lanes = 1; lanes < 4; lanes *= 2) {
        const auto other = b.shuffle_xor(weight_of_all, lanes);
        b.each([&](int t) { weight_of_all[t] += other[t]; });
      }
    }
    b.each([&](int t) {  // lane t of four writes the t-th of their four slots
      const index_t at = slot + slot_of_thread(t, t % 4);
      if (at < row.length) {
        float by = 0;
        if constexpr (alike)
          by = norm[t];
        else
          by = norm_of(task, row, at, t, weights[t]);
        task.out.put(b, t, row.id.index, head, at, rounded_product(sums[t], by), heads[t]);
      }
      clear(t);
    });
  }

 private:
  using local = typename Block::template local<float>;

  /// The sums of x[0] .. x[3] over four lanes, that of x[t] on the t-th: a lane gives away what the other keeps.
  [[nodiscard]] KVEVICT_HOST_DEVICE static local sums_of_quad(Block& b, const local (&x)[4]) {
    local kept[2] = {x[0], x[0]}, given[2] = {x[0], x[0]};
    KVEVICT_UNROLLED for (int k = 0; k < 2; ++k) {
      b.each([&](int t) {
        const bool odd = t % 2 != 0;
        kept[k][t] = odd ? x[2 * k + 1][t] : x[2 * k][t];
        given[k][t] = odd ? x[2 * k][t] : x[2 * k + 1][t];
      });
      const local other = b.shuffle_xor(given[k], 1);
      b.each([&](int t) { kept[k][t] += other[t]; });
    }
    b.each([&](int t) {
      const bool upper = t % 4 >= 2;
      given[0][t] = upper ? kept[0][t] : kept[1][t];
      kept[0][t] = upper ? kept[1][t] : kept[0][t];
    });
    const local other = b.shuffle_xor(given[0], 2);
    b.each([&](int t) { kept[0][t] += other[t]; });
    return kept[0];
  }
  /// `weights`: of the rows that see the slot, where they do not weigh alike.
  [[nodiscard]] KVEVICT_HOST_DEVICE float norm_of(const Task& task, const attention_row& row, index_t slot, int t,
                                                  float weights) const {
    if (task.how.mean == score::row_mean::none) return 1.0F;
    float sum = 0;
    if constexpr (alike)
      sum = static_cast<float>(task.how.mean == score::row_mean::all
                                   ? row.rows
                                   : least(row.rows, row.seen - task.positions_of_row(row.id)(slot)));
    else
      sum = task.how.mean == score::row_mean::all ? weight_of_all[t] : weights;
    return 1.0F / sum;
  }
};

}  // namespace kvevict::detail
