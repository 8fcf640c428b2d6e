// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cpu/detail/eigen.hpp>
#include <kvevict/cpu/score/kernel.hpp>
#include <kvevict/score/pool.hpp>

namespace kvevict::detail {

/// combine(j, i, n) for every distance inside the window, from left to right: entries i .. i + n of the input meet
/// entries j .. j + n of the output. A loop over distances, so that those over the entries vectorise.
template <class Combine>
void each_distance(index_t count, index_t width, const Combine& combine) {
  const index_t reach = least(width / 2, count - 1);
  for (index_t d = -reach; d <= reach; ++d) combine(greatest(0, -d), greatest(0, d), count - (d < 0 ? -d : d));
}

/// out[j] = sum of in[j - width / 2 .. j + width / 2] / width, zero outside [0, count).
inline void average_pool(const float* in, index_t count, index_t width, float* out) {
  array(out, count) = 0;
  each_distance(count, width, [&](index_t j, index_t i, index_t n) { array(out + j, n) += array(in + i, n); });
  array(out, count) /= static_cast<float>(width);
}

/// out[j] = maximum of in[j - width / 2 .. j + width / 2] inside [0, count).
inline void maximum_pool(const float* in, index_t count, index_t width, float* out) {
  array(out, count) = array(in, count);
  each_distance(count, width, [&](index_t j, index_t i, index_t n) { raise(out + j, in + i, n); });
}

template <class Pool>
struct pool_kernel : plain_stage<Pool> {
  static void plan(const Pool&, const scratch_extent& extent, carver& scratch) { scratch.take<float>(extent.length); }
  template <class Inputs>
  static void run(const Pool& pool, const Inputs&, const score::row_context& row, const scratch_extent& extent,
                  float* scores, carver scratch) {
    float* before = scratch.take<float>(extent.length);
    const index_t count = row.length - row.recent;
    array(before, count) = array(scores, count);
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
