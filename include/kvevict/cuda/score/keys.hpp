// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <kvevict/cuda/detail/entry_elements.hpp>
#include <kvevict/cuda/score/kernel.hpp>
#include <kvevict/score/keys.hpp>

/// Scores from keys alone: a warp per key, its lanes along the dims. Against exact arithmetic on the same keys:
///
///     key_norm    relative error below (dims / 32 + 6) 2^-24
///     key_diff    error below (dims / 32 + 12) 2^-23 (1 + 1 / ||m||), m the mean of the normalised keys
namespace kvevict::detail {

/// give(thread, slot, sum of term(thread, x_d, d) over the dims of the slot's entry), on one thread for every slot. A
/// warp has four slots at a time, so that it waits for memory less often.
template <class Program, class Entries, class Term, class Give>
KVEVICT_HOST_DEVICE void sums_of_slots(const Program& p, const Entries& entries, const Term& term, const Give& give) {
  constexpr int at_once = 4;
  auto& b = p.b;
  using local = decltype(b.template make_local<float>());
  const index_t warps = b.threads() / warp_threads, length = p.row.length, dims = entries.dims();
  KVEVICT_ROLLED for (index_t first = 0; first < length; first += at_once * warps) {
    local sums[at_once];
    KVEVICT_UNROLLED for (int s = 0; s < at_once; ++s) sums[s] = b.template make_local<float>();
    const auto slot_of = [&](int t, int s) { return first + s * warps + t / warp_threads; };
    b.each([&](int t) {
      const auto elements = [&](int s) {
        return entry_elements<Entries>{entries, p.row.row, least(slot_of(t, s), length - 1)};
      };
      const entry_elements<Entries> of[at_once] = {elements(0), elements(1), elements(2), elements(3)};
      float sum[at_once] = {};
      KVEVICT_ROLLED for (index_t d = t % warp_threads; d < dims; d += warp_threads) {
        KVEVICT_UNROLLED for (int s = 0; s < at_once; ++s) sum[s] += term(t, of[s](d), d);
      }
      KVEVICT_UNROLLED for (int s = 0; s < at_once; ++s) sums[s][t] = sum[s];
    });
    KVEVICT_UNROLLED for (int s = 0; s < at_once; ++s) sums[s] = warp_sums(b, sums[s]);
    b.each([&](int t) {
      if (t % warp_threads != 0) return;
      KVEVICT_UNROLLED for (int s = 0; s < at_once; ++s) {
        if (slot_of(t, s) < length) give(t, slot_of(t, s), sums[s][t]);
      }
    });
  }
  b.sync();
}

/// give(thread, slot, ||entry||^2), on one thread for every slot.
template <class Program, class Entries, class Give>
KVEVICT_HOST_DEVICE void squared_norms(const Program& p, const Entries& entries, const Give& give) {
  sums_of_slots(
      p, entries, [](int, float x, index_t) { return x * x; }, give);
}

template <>
struct source_program<score::key_norm> {
  static void plan(const score::key_norm&, const program_extent&, carver&) {}
  template <class Program>
  KVEVICT_HOST_DEVICE static void run(const Program& p, const score::key_norm&, float* out, carver) {
    const auto scores = p.b.global(out, p.row.length);
    squared_norms(p, p.in.cache.keys(), [&](int t, index_t j, float sum) { scores.store(t, j, -std::sqrt(sum)); });
  }
};

template <>
struct source_program<score::key_diff> {
  static constexpr int lane_dims = 4;  ///< of every lane at a time
  static constexpr int tile = warp_threads * lane_dims;
  static constexpr int most_terms = 16;  ///< of a sum in float; longer ones are double

  static void plan(const score::key_diff&, const program_extent& extent, carver& scratch) {
    scratch.take<double>(warp_threads * tile);
    scratch.take<float>(extent.key_dims);
  }

  template <class Program>
  KVEVICT_HOST_DEVICE static void run(const Program& p, const score::key_diff&, float* out, carver scratch) {
    auto& b = p.b;
    const auto& keys = p.in.cache.keys();
    const index_t dims = keys.dims(), length = p.row.length;
    const auto totals = b.global(scratch.take<double>(warp_threads * tile), warp_threads * tile);
    const auto anchor = b.global(scratch.take<float>(p.extent.key_dims), dims);
    const auto scores = b.global(out, length);
    const auto scale_of = [](float squares) { return 1.0F / greatest(std::sqrt(squares), 1e-12F); };

    // Until they are scores they are the keys' scales.
    squared_norms(p, keys, [&](int t, index_t j, float squares) { scores.store(t, j, scale_of(squares)); });
    KVEVICT_ROLLED for (index_t first = 0; first < dims; first += tile) {
      b.each([&](int t) { sum_of_warp(p, keys, first, t, scores, totals); });
      b.sync();
      p.each(least<index_t>(tile, dims - first), [&](int t, index_t d) {
        double total = 0;
        KVEVICT_ROLLED for (int w = 0; w < b.threads() / warp_threads; ++w) total += totals.load(t, w * tile + d);
        anchor.store(t, first + d, static_cast<float>(total / length));
      });
      b.sync();
    }
    auto anchor_scale = b.template make_local<float>();  // every warp computes the same
    b.each([&](int t) {
      anchor_scale[t] = 0;
      for (index_t d = t % warp_threads; d < dims; d += warp_threads)
        anchor_scale[t] += anchor.load(t, d) * anchor.load(t, d);
    });
    anchor_scale = warp_sums(b, anchor_scale);
    b.each([&](int t) { anchor_scale[t] = scale_of(anchor_scale[t]); });
    sums_of_slots(
        p, keys, [&](int t, float x, index_t d) { return x * anchor.load(t, d); },
        [&](int t, index_t j, float dot) { scores.store(t, j, -dot * scores.load(t, j) * anchor_scale[t]); });
  }

 private:
  /// totals[warp][dim of the tile] = sum of scaled keys over the slots of the warp.
  template <class Program, class Keys, class Scales, class Totals>
  KVEVICT_HOST_DEVICE static void sum_of_warp(const Program& p, const Keys& keys, index_t first, int t,
                                              const Scales& scales, const Totals& totals) {
    const index_t warp = t / warp_threads, warps = p.b.threads() / warp_threads, lane = t % warp_threads;
    double total[lane_dims] = {};
    for (index_t j = warp; j < p.row.length;) {
      float part[lane_dims] = {};
      for (int term = 0; term < most_terms && j < p.row.length; ++term, j += warps) {
        const entry_elements<Keys> key{keys, p.row.row, j};
        const float scale = scales.load(t, j);
        KVEVICT_UNROLLED for (int k = 0; k < lane_dims; ++k) {
          const index_t d = first + k * warp_threads + lane;
          if (d < keys.dims()) part[k] += key(d) * scale;
        }
      }
      KVEVICT_UNROLLED for (int k = 0; k < lane_dims; ++k) total[k] += part[k];
    }
    KVEVICT_UNROLLED for (int k = 0; k < lane_dims; ++k)
        totals.store(t, warp * tile + k * warp_threads + lane, total[k]);
  }
};

}  // namespace kvevict::detail
