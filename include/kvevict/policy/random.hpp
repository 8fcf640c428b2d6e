// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/policy/policy.hpp>
#include <kvevict/score/position.hpp>

namespace kvevict {

/// Keeps slots by chance: what a policy that knows nothing achieves. The same on every backend and run.
///
/// Along decode: a token's number never changes, so a token that stayed is evicted only by better ones.
struct random {
  static constexpr const char* name = "random";
  amount budget = slots(1024);
  std::uint64_t seed = 0;
  index_t sinks = 0;
  index_t recent = 0;

  friend constexpr bool operator==(const random&, const random&) = default;
  template <class Self, class Visit>
  static constexpr void options(Self& self, Visit&& visit) {
    visit("seed", self.seed);
    visit("sinks", self.sinks);
    visit("recent", self.recent);
  }

  [[nodiscard]] constexpr auto scorer() const { return score::random{seed}; }
  [[nodiscard]] constexpr auto rule() const { return budget::uniform{budget}; }
  [[nodiscard]] constexpr protect protection() const { return {sinks, slots(recent)}; }
};

}  // namespace kvevict
