// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/budget/pyramid.hpp>
#include <kvevict/policy/snapkv.hpp>

namespace kvevict {

/// PyramidKV (arXiv 2406.02069): SnapKV's scores with budgets that fall with depth (budget/pyramid.hpp).
///
/// Defaults of the authors' runs: window 8, maximum pooling of width 7, beta 20.
///
/// Along decode: published for the prompt only. Here the window slides as SnapKV's. The layer budgets stay those of the
/// prompt where `sequence_extent::prompt_length` says how long it was, which it should: without it the schedule's n is
/// what each row holds at an eviction, and the pyramid flattens from one to the next.
template <class Pool = score::max_pool>
struct pyramidkv {
  static constexpr const char* name = "pyramidkv";
  amount budget = slots(1024);
  index_t window = 8;
  index_t pool_width = 7;
  double beta = 20;
  index_t sinks = 0;
  index_t recent = as_window;

  friend constexpr bool operator==(const pyramidkv&, const pyramidkv&) = default;
  template <class Self, class Visit>
  static constexpr void options(Self& self, Visit&& visit) {
    visit("window", self.window);
    visit("pool", Pool::spelling);
    visit("pool_width", self.pool_width);
    visit("beta", self.beta);
    visit("sinks", self.sinks);
    visit("recent", self.recent);
  }

  [[nodiscard]] constexpr auto scorer() const {
    return snapkv<Pool>{.window = window, .pool_width = pool_width}.scorer();
  }
  [[nodiscard]] constexpr auto rule() const { return budget::pyramid{budget, beta}; }
  [[nodiscard]] constexpr protect protection() const { return {sinks, recent_or_window(recent, window)}; }
};

}  // namespace kvevict
