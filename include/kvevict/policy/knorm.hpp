// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/policy/policy.hpp>
#include <kvevict/score/keys.hpp>

namespace kvevict {

/// Keys of smallest norm stay (Devoto et al., arXiv 2406.11430; kvpress Knorm).
/// Nothing is protected unless asked. The authors skip the first two layers; here, as in kvpress, every layer is
/// treated alike.
///
/// Along decode: the same rule at each eviction.
struct knorm {
  static constexpr const char* name = "knorm";
  amount budget = slots(1024);
  index_t sinks = 0;
  index_t recent = 0;

  friend constexpr bool operator==(const knorm&, const knorm&) = default;
  template <class Self, class Visit>
  static constexpr void options(Self& self, Visit&& visit) {
    visit("sinks", self.sinks);
    visit("recent", self.recent);
  }

  [[nodiscard]] constexpr auto scorer() const { return score::key_norm{}; }
  [[nodiscard]] constexpr auto rule() const { return budget::uniform{budget}; }
  [[nodiscard]] constexpr protect protection() const { return {sinks, slots(recent)}; }
};

}  // namespace kvevict
