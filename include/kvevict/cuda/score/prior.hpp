// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/score/keys.hpp>
#include <kvevict/cuda/score/pool.hpp>
#include <kvevict/score/prior.hpp>

/// The value prior: from given norms, bit for bit what the CPU gives; from values, their norms with a relative error
/// below (dims / 32 + 6) 2^-24.
namespace kvevict::detail {

template <>
struct stage_program<score::value_prior> {
  static void plan(const score::value_prior&, const program_extent& extent, carver& scratch) {
    scratch.take<float>(extent.length);
    scratch.take<float>(extent.length);
  }

  template <class Program>
  KVEVICT_HOST_DEVICE static void run(const Program& p, const score::value_prior& prior, float* out, carver scratch) {
    auto& b = p.b;
    const index_t length = p.row.length;
    const auto scores = b.global(out, length);
    const auto norms = b.global(scratch.take<float>(p.extent.length), p.extent.length);
    const auto pooled = b.global(scratch.take<float>(p.extent.length), p.extent.length);
    write_norms(p, norms);
    auto peak = b.template make_local<float>();
    b.each([&](int t) {
      peak[t] = 0;
      for (index_t j = t; j < length; j += b.threads()) {
        const float mean = window_mean(t, norms, j, length, prior.width);
        pooled.store(t, j, mean);
        peak[t] = greatest(peak[t], mean);
      }
    });
    peak = reduce_block(b, peak, p.shared.peaks, [](float x, float y) { return greatest(x, y); });
    p.each(length, [&](int t, index_t j) {
      if (peak[t] != 0.0F) scores.store(t, j, scores.load(t, j) * (pooled.load(t, j) / peak[t]));
    });
    b.sync();
  }

 private:
  template <class Program, class Array>
  KVEVICT_HOST_DEVICE static void write_norms(const Program& p, const Array& norms) {
    using inputs = std::remove_cvref_t<decltype(p.in)>;
    if constexpr (inputs::template has<input_kind::value_norms>) {
      const auto& given = p.in.template get<input_kind::value_norms>();
      p.each(p.row.length,
             [&](int t, index_t j) { norms.store(t, j, given.data[given.layout.offset(p.row.row, j, 0)]); });
      p.b.sync();
    } else if constexpr (!cache_with_values<decltype(p.in.cache)>) {
      static_cast<void>(p.in.template get<input_kind::value_norms>());  // says what to pass
    } else {
      squared_norms(p, p.in.cache.values(), [&](int t, index_t j, float sum) { norms.store(t, j, sum); });
    }
  }
};

template <>
struct stage_program<score::no_prior> : empty_stage_program<score::no_prior> {};

}  // namespace kvevict::detail
