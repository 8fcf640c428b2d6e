// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/policy/policy.hpp>
#include <kvevict/score/attention.hpp>
#include <kvevict/score/group.hpp>

namespace kvevict {

/// Accumulated attention of all rows, as a mean over the rows that can see a slot, mean over the group: kvpress'
/// ObservedAttention. Nothing is protected unless asked. `h2o` is the plain sum with recent slots.
///
/// Along decode: running sums that survive evictions, divided by the rows that saw the slot. Published for the
/// prompt only.
struct accumulated_attention {
  static constexpr const char* name = "accumulated_attention";
  amount budget = slots(1024);
  index_t sinks = 0;
  index_t recent = 0;

  friend constexpr bool operator==(const accumulated_attention&, const accumulated_attention&) = default;
  template <class Self, class Visit>
  static constexpr void options(Self& self, Visit&& visit) {
    visit("sinks", self.sinks);
    visit("recent", self.recent);
  }

  [[nodiscard]] constexpr auto scorer() const {
    return score::accumulated_attention(score::row_mean::visible) | score::group_mean{};
  }
  [[nodiscard]] constexpr auto rule() const { return budget::uniform{budget}; }
  [[nodiscard]] constexpr protect protection() const { return {sinks, slots(recent)}; }
};

}  // namespace kvevict
