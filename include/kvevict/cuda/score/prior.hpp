// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/score/pool.hpp>
#include <kvevict/cuda/score/slot_entries.hpp>
#include <kvevict/score/prior.hpp>

/// The value prior: from given norms, bit for bit what the CPU gives; from values, their norms with a relative error
/// below (dims / 32 + 6) 2^-24.
namespace kvevict::detail {

/// Whether values themselves must be read.
template <class Inputs>
inline constexpr bool reads_values =
    !Inputs::template has<input_kind::value_norms> && cache_with_values<decltype(std::declval<Inputs>().cache)>;
template <class Inputs>
requires reads_values<Inputs>
inline constexpr auto passes_of<score::value_prior, Inputs> = slot_passes<entry_squares<entry_part::values>>{};

template <>
struct stage_program<score::value_prior> {
  static void plan(const score::value_prior&, const program_extent& extent, carver& scratch) {
    scratch.take<float>(extent.length);
  }

  template <class Program>
  KVEVICT_HOST_DEVICE static void run(const Program& p, const score::value_prior& prior, float* out, carver scratch) {
    auto& b = p.b;
    const index_t length = p.row.length;
    const auto scores = b.global(out, length);
    const auto pooled = b.global(scratch.take<float>(p.extent.length), p.extent.length);
    auto peak = b.template make_local<float>();
    b.each([&](int t) { peak[t] = 0; });
    with_norms(p, [&](const auto& norm) {
      window_means(p, norm, length, prior.width, [&](int t, index_t j, float mean) {
        pooled.store(t, j, mean);
        peak[t] = greatest(peak[t], mean);
      });
    });
    peak = reduce_block(b, peak, p.shared.peaks, [](float x, float y) { return greatest(x, y); });
    p.write(
        scores,
        [&](int t, index_t j) {
          return two{scores.load(t, j), pooled.load(t, j)};
        },
        [&](int t, const two& x) { return peak[t] != 0.0F ? x.score * (x.norm / peak[t]) : x.score; });
    b.sync();
  }

 private:
  struct two {
    float score, norm;
  };
  /// f(norm), where norm(thread, slot) is what is given, or what the pass has left.
  template <class Program, class F>
  KVEVICT_HOST_DEVICE static void with_norms(const Program& p, const F& f) {
    using inputs = std::remove_cvref_t<decltype(p.in)>;
    if constexpr (reads_values<inputs>) {
      const float* const squares = p.extent.of_row(p.extent.numbers.value_squares, p.row.row);
      f([&](int t, index_t j) { return p.b.template load<float>(t, squares + j); });
    } else {
      const auto& given = p.in.template get<input_kind::value_norms>();  // says what to pass
      f([&](int, index_t j) { return given.data[given.layout.offset(p.row.row, j, 0)]; });
    }
  }
};

template <>
struct stage_program<score::no_prior> : empty_stage_program<score::no_prior> {};

}  // namespace kvevict::detail
