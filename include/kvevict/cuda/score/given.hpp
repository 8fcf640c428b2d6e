// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/core/amount.hpp>
#include <kvevict/cuda/score/attention_task.hpp>

/// Columns of attention from numbers that are given: probabilities of the engine's, or sums that a decode state keeps.
/// Each column is one sum in the order of the rows; where rows weigh alike it has the CPU's bits.
namespace kvevict::detail {

/// Whether a source takes probabilities that are given, or sums of them, instead of queries.
template <class Source, class Inputs>
inline constexpr bool attention_is_given = Source::gain_type::plain&& Inputs::template has<input_kind::attention>;
template <class Source, class Inputs>
[[nodiscard]] constexpr bool sums_are_given(const Source& source, const Inputs&) {
  return Inputs::template has<input_kind::attention_sums> && source.window == score::all_rows;
}

/// Sum of the weights of the `rows` newest rows.
template <class Weight>
[[nodiscard]] KVEVICT_HOST_DEVICE double weight_of_rows(const Weight& weight, index_t rows) {
  if constexpr (std::is_same_v<Weight, score::equal_rows>) return rows;
  double sum = 0;
  KVEVICT_ROLLED for (index_t age = 0; age < rows; ++age) sum += weight(age);
  return sum;
}

/// What the sum of a slot is multiplied with: a slot of age a is seen by the rows of age 0 .. a.
template <class Attention>
[[nodiscard]] KVEVICT_HOST_DEVICE float row_norm(const Attention& how, index_t window, index_t age) {
  if (how.mean == score::row_mean::none) return 1.0F;
  const index_t rows = how.mean == score::row_mean::all ? window : least(window, age + 1);
  return static_cast<float>(1.0 / weight_of_rows(how.weight, rows));
}

/// `Given` is an attention_view or, where all rows accumulate, sums. All memory is the device's.
template <class Attention, class Cache, class Given, class Positions>
struct given_task {
  Attention how;
  Cache cache;
  Given given;
  Positions positions;
  index_t group_size = 1;
  index_t blocks_per_row = 1;  ///< blocks of the grid that share a row of the cache
  column_output out{};
};

/// Number `part` of `parts` of the columns of a row, by one block.
template <class Block, class Task>
KVEVICT_HOST_DEVICE void give_columns(Block& b, const Task& task, const row_id& row, index_t part, index_t parts) {
  constexpr bool sums = decltype(task.given)::kind == input_kind::attention_sums;
  const cache_shape shape = task.cache.shape();
  const index_t length = task.cache.length(row);
  index_t seen = length;
  row_positions position{};
  if constexpr (!std::is_same_v<std::remove_cvref_t<decltype(task.positions)>, not_given>) {
    seen = task.positions.seen(shape, row, length);
    position = task.positions.of(row);
  }
  b.each([&](int t) {
    KVEVICT_ROLLED for (offset_t j = static_cast<offset_t>(part) * b.threads() + t; j < length;
                        j += static_cast<offset_t>(parts) * b.threads()) {
      const auto slot = static_cast<index_t>(j);
      const index_t token = position(slot);
      const float norm = row_norm(task.how, least(task.how.window, seen), seen - 1 - token);
      float all = 0;
      KVEVICT_ROLLED for (index_t h = 0; h < task.group_size; ++h) {
        float sum = 0;
        if constexpr (sums) {
          sum = task.given.of(row, h)[j];
        } else {
          const index_t rows = task.given.row_count(shape, row);
          const index_t window = least(task.how.window, least(seen, rows));  // fewer than promised: no wild read
          row_id head = row;
          head.kv_head = row.kv_head * task.group_size + h;
          for (index_t i = greatest(seen - window, token); i < seen && slot < task.given.entries.dims(); ++i)
            sum +=
                static_cast<float>(task.how.weight(seen - 1 - i)) * task.given.entries(head, rows - (seen - i), slot);
        }
        task.out.put(b, t, row.index, h, j, rounded_product(sum, norm), all);
      }
    }
  });
}

/// The kernel, of rows * blocks_per_row blocks.
template <class Block, class Task>
KVEVICT_HOST_DEVICE void given_columns(Block& b, const Task& task) {
  give_columns(b, task, task.cache.shape().row(b.index() / task.blocks_per_row), b.index() % task.blocks_per_row,
               task.blocks_per_row);
}

}  // namespace kvevict::detail
