// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/policy/policy.hpp>
#include <kvevict/score/position.hpp>

namespace kvevict {

/// StreamingLLM (arXiv 2309.17453): the first `sinks` slots and the latest ones, budget - sinks of them.
///
/// Published default: 4 sinks. Differs from the authors' code in one respect: keys stay as the cache holds them, at
/// their original positions; the authors cache keys before RoPE and rotate by cache index.
///
/// Along decode: the same, by position.
struct streaming_llm {
  static constexpr const char* name = "streaming_llm";
  amount budget = slots(1024);
  index_t sinks = 4;

  friend constexpr bool operator==(const streaming_llm&, const streaming_llm&) = default;
  template <class Self, class Visit>
  static constexpr void options(Self& self, Visit&& visit) {
    visit("sinks", self.sinks);
  }

  [[nodiscard]] constexpr auto scorer() const { return score::recency{}; }
  [[nodiscard]] constexpr auto rule() const { return budget::uniform{budget}; }
  [[nodiscard]] constexpr protect protection() const { return {sinks, slots(0)}; }
};

}  // namespace kvevict
