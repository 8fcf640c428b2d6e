// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/score/kernel.hpp>
#include <kvevict/score/group.hpp>

/// Scores of a group's query_heads to one; bit for bit what the CPU gives.
namespace kvevict::detail {

/// out[slot] = last(scores of all heads, combined from the first to the last).
template <class Program, class Head, class Combine, class Last>
KVEVICT_HOST_DEVICE void reduce_heads(const Program& p, const Head& head, float* out, const Combine& combine,
                                      const Last& last) {
  const auto scores = p.b.global(out, p.row.length);
  p.each(p.row.length, [&](int t, index_t j) {
    float all = head(t, 0, j);
    for (index_t h = 1; h < p.row.group_size; ++h) all = combine(all, head(t, h, j));
    scores.store(t, j, last(all));
  });
  p.b.sync();
}

template <>
struct stage_program<score::group_sum> : plain_stage_program<score::group_sum> {
  template <class Program, class Head>
  KVEVICT_HOST_DEVICE static void run(const Program& p, const score::group_sum&, const Head& head, float* out) {
    reduce_heads(
        p, head, out, [](float a, float b) { return a + b; }, [](float sum) { return sum; });
  }
};

template <>
struct stage_program<score::group_mean> : plain_stage_program<score::group_mean> {
  template <class Program, class Head>
  KVEVICT_HOST_DEVICE static void run(const Program& p, const score::group_mean&, const Head& head, float* out) {
    const auto count = static_cast<float>(p.row.group_size);
    reduce_heads(
        p, head, out, [](float a, float b) { return a + b; }, [&](float sum) { return sum / count; });
  }
};

template <>
struct stage_program<score::group_max> : plain_stage_program<score::group_max> {
  template <class Program, class Head>
  KVEVICT_HOST_DEVICE static void run(const Program& p, const score::group_max&, const Head& head, float* out) {
    reduce_heads(
        p, head, out, [](float best, float x) { return x > best ? x : best; }, [](float best) { return best; });
  }
};

/// Crosses rows: a kernel of its own does it after all rows are scored (`mean_of_layer`).
template <>
struct stage_program<score::layer_mean> : empty_stage_program<score::layer_mean> {};

}  // namespace kvevict::detail
