// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/policy/policy.hpp>
#include <kvevict/score/attention.hpp>
#include <kvevict/score/group.hpp>
#include <kvevict/score/position.hpp>

namespace kvevict {

/// NACL (arXiv 2408.03675): accumulated attention of proxy rows, the last `window` ones, and random eviction: a
/// share of the free budget is drawn by chance with probability proportional to exp(score / temperature).
///
/// The proxies are kept. Chosen here, because the paper's settings depend on the task: window 32, a quarter drawn
/// by chance, temperature 1. Groups are reduced by the mean; draws differ by head, layer and sequence.
///
/// Along decode: the proxies are the last `window` queries, the draw is made anew at each eviction by the scores of the
/// moment; a token's chance number never changes.
struct nacl {
  static constexpr const char* name = "nacl";
  amount budget = slots(1024);
  index_t window = 32;
  double random = 0.25;
  double temperature = 1;
  std::uint64_t seed = 0;
  index_t sinks = 0;
  index_t recent = as_window;

  friend constexpr bool operator==(const nacl&, const nacl&) = default;
  template <class Self, class Visit>
  static constexpr void options(Self& self, Visit&& visit) {
    visit("window", self.window);
    visit("random", self.random);
    visit("temperature", self.temperature);
    visit("seed", self.seed);
    visit("sinks", self.sinks);
    visit("recent", self.recent);
  }

  [[nodiscard]] constexpr auto scorer() const {
    return score::attention<>{.window = window} | score::group_mean{} |
           score::random_share{.share = random, .temperature = temperature, .seed = seed};
  }
  [[nodiscard]] constexpr auto rule() const { return budget::uniform{budget}; }
  [[nodiscard]] constexpr protect protection() const { return {sinks, recent_or_window(recent, window)}; }
};

}  // namespace kvevict
