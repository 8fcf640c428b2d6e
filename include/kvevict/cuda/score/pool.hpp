// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/score/kernel.hpp>
#include <kvevict/score/pool.hpp>

/// Smoothing over neighbouring slots; bit for bit what the CPU gives.
namespace kvevict::detail {

/// give(thread, slot, in(thread, i) combined over the window of width `width` around every slot, inside [0, count)).
template <class Program, class In, class Combine, class Give>
KVEVICT_HOST_DEVICE void windows(const Program& p, const In& in, index_t count, index_t width, float start,
                                 const Combine& combine, const Give& give) {
  const offset_t reach = least(width / 2, count - 1);
  fold_slots<4>(  // what a slot reads its neighbours have brought near: registers count more
      p.b, count, 2 * reach + 1, start,
      [&](float all, int t, index_t j, offset_t k) {
        const offset_t i = j - reach + k;
        const bool inside = i >= 0 && i < count;
        const float x = in(t, inside ? static_cast<index_t>(i) : j);
        return inside ? combine(all, x) : all;
      },
      give);
}

/// Sums over the windows over their width, zero outside [0, count).
template <class Program, class In, class Give>
KVEVICT_HOST_DEVICE void window_means(const Program& p, const In& in, index_t count, index_t width, const Give& give) {
  windows(
      p, in, count, width, 0.0F, [](float sum, float x) { return sum + x; },
      [&](int t, index_t j, float sum) { give(t, j, sum / static_cast<float>(width)); });
}

template <class Program, class In, class Give>
KVEVICT_HOST_DEVICE void window_maxima(const Program& p, const In& in, index_t count, index_t width, const Give& give) {
  constexpr auto nothing = bits_as<float>(std::uint32_t{0x7fc00000});  // which every number takes the place of
  const auto larger = [](float best, float x) {
    if (x > best || best != best) best = x;
    return best;
  };
  windows(p, in, count, width, nothing, larger, give);
}

template <class Pool>
struct row_pool {
  static void plan(const Pool&, const program_extent& extent, carver& scratch) { scratch.take<float>(extent.length); }
  template <class Program>
  KVEVICT_HOST_DEVICE static void run(const Program& p, const Pool& pool, float* out, carver scratch) {
    const index_t count = p.row.length - p.row.recent;
    const auto scores = p.b.global(out, p.row.length);
    const auto before = p.b.global(scratch.take<float>(p.extent.length), p.extent.length);
    p.write(before, [&](int t, index_t j) { return scores.load(t, j); });
    p.b.sync();
    const auto in = [&](int t, index_t i) { return before.load(t, i); };
    const auto give = [&](int t, index_t j, float x) { scores.store(t, j, x); };
    if constexpr (std::is_same_v<Pool, score::avg_pool>)
      window_means(p, in, count, pool.width, give);
    else
      window_maxima(p, in, count, pool.width, give);
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
