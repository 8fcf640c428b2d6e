// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cpu/detail/eigen.hpp>
#include <kvevict/cpu/score/kernel.hpp>
#include <kvevict/score/group.hpp>

namespace kvevict::detail {

template <class Stage, class Combine>
void reduce_group(const score::row_context& row, const float* heads, float* out, const Combine& combine) {
  auto result = array(out, row.length);
  result = array(heads, row.length);
  for (index_t h = 1; h < row.group_size; ++h)
    combine(result, array(heads + static_cast<offset_t>(h) * row.length, row.length));
}

template <>
struct stage_kernel<score::group_sum> : plain_stage<score::group_sum> {
  static void run(const score::group_sum&, const score::row_context& row, const float* heads, float* out) {
    reduce_group<score::group_sum>(row, heads, out, [](auto& sum, const auto& head) { sum += head; });
  }
};

template <>
struct stage_kernel<score::group_mean> : plain_stage<score::group_mean> {
  static void run(const score::group_mean&, const score::row_context& row, const float* heads, float* out) {
    stage_kernel<score::group_sum>::run({}, row, heads, out);
    array(out, row.length) /= static_cast<float>(row.group_size);
  }
};

template <>
struct stage_kernel<score::group_max> : plain_stage<score::group_max> {
  static void run(const score::group_max&, const score::row_context& row, const float* heads, float* out) {
    reduce_group<score::group_max>(row, heads, out,
                                   [](auto& best, const auto& head) { best = (head > best).select(head, best); });
  }
};

/// Crosses rows, so the caller of the kernels does it after all rows are scored.
template <>
struct stage_kernel<score::layer_mean> : plain_stage<score::layer_mean> {
  template <class Inputs>
  static void run(const score::layer_mean&, const Inputs&, const score::row_context&, const scratch_extent&, float*,
                  carver) {}
};

}  // namespace kvevict::detail
