// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/policy/policy.hpp>
#include <kvevict/score/attention.hpp>
#include <kvevict/score/group.hpp>
#include <kvevict/score/pool.hpp>

namespace kvevict {

/// SnapKV (arXiv 2404.14469): mean attention of an observation window, pooled, and the window itself.
///
/// Published defaults: window 32, maximum pooling of width 7 (the paper's runs). kvpress: window 64, average of 5.
/// Differs from the authors' code, which has no GQA: the group is reduced by the mean before pooling (Ada-KV's
/// order; with average pooling the order does not matter). The mean over rows instead of their sum changes no order.
///
/// Along decode: published for the prompt only. Here the window slides: at an eviction the last `window` queries attend
/// to the keys then cached, and pooling runs over neighbours in the cache.
template <class Pool = score::max_pool>
struct snapkv {
  static constexpr const char* name = "snapkv";
  amount budget = slots(1024);
  index_t window = 32;
  index_t pool_width = 7;
  index_t sinks = 0;
  index_t recent = as_window;

  friend constexpr bool operator==(const snapkv&, const snapkv&) = default;
  template <class Self, class Visit>
  static constexpr void options(Self& self, Visit&& visit) {
    visit("window", self.window);
    visit("pool", Pool::spelling);
    visit("pool_width", self.pool_width);
    visit("sinks", self.sinks);
    visit("recent", self.recent);
  }

  [[nodiscard]] constexpr auto scorer() const {
    return score::observation_window(window) | score::group_mean{} | Pool{.width = pool_width};
  }
  [[nodiscard]] constexpr auto rule() const { return budget::uniform{budget}; }
  [[nodiscard]] constexpr protect protection() const { return {sinks, recent_or_window(recent, window)}; }
};

}  // namespace kvevict
