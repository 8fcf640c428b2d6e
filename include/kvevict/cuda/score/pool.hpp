// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/score/kernel.hpp>
#include <kvevict/score/pool.hpp>

/// Smoothing over neighbouring slots; bit for bit what the CPU gives.
namespace kvevict::detail {

/// Slots [first, last] of the window of width `width` around j, inside [0, count).
struct pool_window {
  index_t first, last;
  KVEVICT_HOST_DEVICE static constexpr pool_window of(index_t j, index_t count, index_t width) {
    const index_t reach = width / 2;
    return {greatest(0, j - reach), j > count - 1 - reach ? count - 1 : j + reach};
  }
};

/// Sum of the window around j over its width, zero outside [0, count). `in` is memory of the block.
template <class Array>
[[nodiscard]] KVEVICT_HOST_DEVICE float window_mean(int thread, const Array& in, index_t j, index_t count,
                                                    index_t width) {
  const auto window = pool_window::of(j, count, width);
  float sum = 0;
  for (index_t i = window.first; i <= window.last; ++i) sum += in.load(thread, i);
  return sum / static_cast<float>(width);
}

/// Maximum of the window around j inside [0, count).
template <class Array>
[[nodiscard]] KVEVICT_HOST_DEVICE float window_max(int thread, const Array& in, index_t j, index_t count,
                                                   index_t width) {
  const auto window = pool_window::of(j, count, width);
  float best = in.load(thread, window.first);
  for (index_t i = window.first + 1; i <= window.last; ++i) {
    const float x = in.load(thread, i);
    if (x > best || best != best) best = x;
  }
  return best;
}

template <class Pool>
struct row_pool {
  static void plan(const Pool&, const program_extent& extent, carver& scratch) { scratch.take<float>(extent.length); }
  template <class Program>
  KVEVICT_HOST_DEVICE static void run(const Program& p, const Pool& pool, float* out, carver scratch) {
    const index_t count = p.row.length - p.row.recent, width = pool.width;
    const auto scores = p.b.global(out, p.row.length);
    const auto before = p.b.global(scratch.take<float>(p.extent.length), p.extent.length);
    p.each(count, [&](int t, index_t j) { before.store(t, j, scores.load(t, j)); });
    p.b.sync();
    p.each(count, [&](int t, index_t j) {
      if constexpr (std::is_same_v<Pool, score::avg_pool>)
        scores.store(t, j, window_mean(t, before, j, count, width));
      else
        scores.store(t, j, window_max(t, before, j, count, width));
    });
    p.b.sync();
  }
};

template <>
struct stage_program<score::avg_pool> : row_pool<score::avg_pool> {};
template <>
struct stage_program<score::max_pool> : row_pool<score::max_pool> {};
template <>
struct stage_program<score::no_pool> : empty_stage_program<score::no_pool> {};

}  // namespace kvevict::detail
