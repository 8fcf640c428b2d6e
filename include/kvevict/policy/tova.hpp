// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/policy/policy.hpp>
#include <kvevict/score/attention.hpp>
#include <kvevict/score/group.hpp>

namespace kvevict {

/// TOVA (arXiv 2401.06104): attention of the newest row, mean over all query_heads of the layer, so all kv_heads
/// keep the same slots. The newest slot is kept, as in kvpress; the authors do not force it.
///
/// Along decode: the newest row over the slots then cached, as published.
struct tova {
  static constexpr const char* name = "tova";
  amount budget = slots(1024);
  index_t sinks = 0;
  index_t recent = 1;

  friend constexpr bool operator==(const tova&, const tova&) = default;
  template <class Self, class Visit>
  static constexpr void options(Self& self, Visit&& visit) {
    visit("sinks", self.sinks);
    visit("recent", self.recent);
  }

  [[nodiscard]] constexpr auto scorer() const {
    return score::observation_window(1) | score::group_mean{} | score::layer_mean{};
  }
  [[nodiscard]] constexpr auto rule() const { return budget::uniform{budget}; }
  [[nodiscard]] constexpr protect protection() const { return {sinks, slots(recent)}; }
};

}  // namespace kvevict
