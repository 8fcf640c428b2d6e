// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cpu/score/kernel.hpp>
#include <kvevict/score/pool.hpp>

namespace kvevict::detail {

/// out[j] = sum of in[j - width / 2 .. j + width / 2] / width, zero outside [0, count).
inline void average_pool(const float* in, index_t count, index_t width, float* out) {
  const index_t reach = width / 2;
  for (index_t j = 0; j < count; ++j) {
    const index_t last = least(count - 1, j > count - 1 - reach ? count - 1 : j + reach);
    float sum = 0;
    for (index_t i = greatest(0, j - reach); i <= last; ++i) sum += in[i];
    out[j] = sum / static_cast<float>(width);
  }
}

/// out[j] = maximum of in[j - width / 2 .. j + width / 2] inside [0, count).
inline void maximum_pool(const float* in, index_t count, index_t width, float* out) {
  const index_t reach = width / 2;
  for (index_t j = 0; j < count; ++j) {
    const index_t last = j > count - 1 - reach ? count - 1 : j + reach;
    float best = in[greatest(0, j - reach)];
    for (index_t i = greatest(0, j - reach) + 1; i <= last; ++i)
      if (in[i] > best || best != best) best = in[i];
    out[j] = best;
  }
}

template <class Pool>
struct pool_kernel : plain_stage<Pool> {
  static void plan(const Pool&, const scratch_extent& extent, carver& scratch) { scratch.take<float>(extent.length); }
  template <class Inputs>
  static void run(const Pool& pool, const Inputs&, const score::row_context& row, const scratch_extent& extent,
                  float* scores, carver scratch) {
    float* before = scratch.take<float>(extent.length);
    const index_t count = row.length - row.recent;
    for (index_t j = 0; j < count; ++j) before[j] = scores[j];
    if constexpr (std::is_same_v<Pool, score::avg_pool>)
      average_pool(before, count, pool.width, scores);
    else
      maximum_pool(before, count, pool.width, scores);
  }
};

template <>
struct stage_kernel<score::avg_pool> : pool_kernel<score::avg_pool> {};
template <>
struct stage_kernel<score::max_pool> : pool_kernel<score::max_pool> {};

template <>
struct stage_kernel<score::no_pool> : plain_stage<score::no_pool> {
  template <class Inputs>
  static void run(const score::no_pool&, const Inputs&, const score::row_context&, const scratch_extent&, float*,
                  carver) {}
};

}  // namespace kvevict::detail
