// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/score/kernel.hpp>
#include <kvevict/score/group.hpp>

/// Scores of a group's query_heads to one; bit for bit what the CPU gives.
namespace kvevict::detail {

template <>
struct stage_program<score::group_sum> : plain_stage_program<score::group_sum> {
  static constexpr heads_as as = heads_as::sum;
};

template <>
struct stage_program<score::group_mean> : plain_stage_program<score::group_mean> {
  static constexpr heads_as as = heads_as::mean;
};

template <>
struct stage_program<score::group_max> : plain_stage_program<score::group_max> {
  static constexpr heads_as as = heads_as::max;
};

/// Crosses rows: a kernel of its own does it after all rows are scored (`mean_of_layer`).
template <>
struct stage_program<score::layer_mean> : empty_stage_program<score::layer_mean> {};

}  // namespace kvevict::detail
