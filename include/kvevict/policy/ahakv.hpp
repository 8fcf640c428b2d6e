// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/policy/policy.hpp>
#include <kvevict/score/attention.hpp>
#include <kvevict/score/group.hpp>
#include <kvevict/score/prior.hpp>

namespace kvevict {

/// Which rows accumulate: AhaKV's recent ones, or all (what H2O does).
struct recent_rows {
  static constexpr const char* spelling = "recent";
  [[nodiscard]] static constexpr index_t of(index_t window) { return window; }
};
struct every_row {
  static constexpr const char* spelling = "all";
  [[nodiscard]] static constexpr index_t of(index_t) { return score::all_rows; }
};

/// AhaKV (arXiv 2506.03762): step gain softmax, recent accumulation, value prior; the window itself is kept.
///
///     score_j = gamma_j / max gamma * mean over the group of sum over the last `window` rows of a[i, j]
///
/// Published default: window 32. Left open by the paper and chosen here: groups are reduced by the mean, i counts
/// all tokens seen, gain 0 for rows with i <= budget (`gain_floor` raises it), prior pooled over 5 slots
/// (score/gain.hpp, score/prior.hpp). The paper's ablation switches each part by its type: plain_gain, every_row,
/// no_prior.
///
/// Along decode: as published: the last `window` queries over the keys then cached, i = all tokens seen, evicted ones
/// included, back to the fixed budget. With every_row: running sums, each row with its own gain.
template <class Gain = score::step_gain, class Accumulation = recent_rows, class Prior = score::value_prior>
struct ahakv {
  static constexpr const char* name = "ahakv";
  amount budget = slots(1024);
  index_t window = 32;
  index_t prior_width = 5;
  double gain_floor = 0;
  index_t sinks = 0;
  index_t recent = as_window;

  friend constexpr bool operator==(const ahakv&, const ahakv&) = default;
  template <class Self, class Visit>
  static constexpr void options(Self& self, Visit&& visit) {
    visit("window", self.window);
    visit("gain", Gain::spelling);
    visit("accumulation", Accumulation::spelling);
    visit("prior", Prior::spelling);
    visit("prior_width", self.prior_width);
    visit("gain_floor", self.gain_floor);
    visit("sinks", self.sinks);
    visit("recent", self.recent);
  }

  [[nodiscard]] constexpr auto scorer() const {
    Gain gain{};
    if constexpr (!Gain::plain) gain.floor = gain_floor;
    return score::attention<Gain>{.window = Accumulation::of(window), .gain = gain} | score::group_mean{} |
           Prior{.width = prior_width};
  }
  [[nodiscard]] constexpr auto rule() const { return budget::uniform{budget}; }
  [[nodiscard]] constexpr protect protection() const { return {sinks, recent_or_window(recent, window)}; }
};

}  // namespace kvevict
