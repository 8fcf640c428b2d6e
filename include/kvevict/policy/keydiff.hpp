// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/policy/policy.hpp>
#include <kvevict/score/keys.hpp>

namespace kvevict {

/// Keys least like the average key stay (KeyDiff, arXiv 2504.15364; kvpress KeyDiff).
/// Nothing is protected unless asked. The paper evicts in blocks during prefill; here, as in kvpress, once over the
/// whole row.
///
/// Along decode: the average runs over the keys then cached.
struct keydiff {
  static constexpr const char* name = "keydiff";
  amount budget = slots(1024);
  index_t sinks = 0;
  index_t recent = 0;

  friend constexpr bool operator==(const keydiff&, const keydiff&) = default;
  template <class Self, class Visit>
  static constexpr void options(Self& self, Visit&& visit) {
    visit("sinks", self.sinks);
    visit("recent", self.recent);
  }

  [[nodiscard]] constexpr auto scorer() const { return score::key_diff{}; }
  [[nodiscard]] constexpr auto rule() const { return budget::uniform{budget}; }
  [[nodiscard]] constexpr protect protection() const { return {sinks, slots(recent)}; }
};

}  // namespace kvevict
