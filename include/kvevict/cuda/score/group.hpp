// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/score/slot_passes.hpp>
#include <kvevict/score/group.hpp>

/// Scores of a group's query_heads to one; bit for bit what the CPU gives.
namespace kvevict::detail {

template <>
struct stage_program<score::group_sum> : plain_stage_program<score::group_sum> {
  [[nodiscard]] KVEVICT_HOST_DEVICE static float combined(float a, float b) { return a + b; }
  [[nodiscard]] KVEVICT_HOST_DEVICE static float last(float sum, index_t /*heads*/) { return sum; }
};

template <>
struct stage_program<score::group_mean> : plain_stage_program<score::group_mean> {
  [[nodiscard]] KVEVICT_HOST_DEVICE static float combined(float a, float b) { return a + b; }
  [[nodiscard]] KVEVICT_HOST_DEVICE static float last(float sum, index_t heads) {
    return sum / static_cast<float>(heads);
  }
};

template <>
struct stage_program<score::group_max> : plain_stage_program<score::group_max> {
  [[nodiscard]] KVEVICT_HOST_DEVICE static float combined(float best, float x) { return x > best ? x : best; }
  [[nodiscard]] KVEVICT_HOST_DEVICE static float last(float best, index_t /*heads*/) { return best; }
};

/// Columns of attention that a stage reduces: what the group gets takes the place of its first head's column.
template <class Stage>
struct group_columns : slot_pass {
  template <class Block, class Inputs>
  KVEVICT_HOST_DEVICE static void run(Block& b, const Inputs& in, const program_extent& extent, const row_id& row,
                                      index_t part, index_t parts) {
    float* const columns = extent.columns_of(row);
    reduce_heads<Stage>(
        b, in.cache.length(row), extent.group_size,
        [&](int t, index_t h, index_t j) {
          return b.template load<float>(t, columns + h * offset_t{extent.length} + j);
        },
        [&](int t, index_t j, float all) { b.store(t, columns + j, all); }, part, parts);
  }
};
template <class Gain, class Weight, class Stage, class Inputs>
requires Stage::reduces_group inline constexpr auto
    passes_of<score::pipe<score::attention<Gain, Weight>, Stage>, Inputs> = slot_passes<group_columns<Stage>>{};

/// Crosses rows: a kernel of its own does it after all rows are scored (`mean_of_layer`).
template <>
struct stage_program<score::layer_mean> : empty_stage_program<score::layer_mean> {};

}  // namespace kvevict::detail
