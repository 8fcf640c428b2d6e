// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/policy/policy.hpp>
#include <kvevict/score/attention.hpp>
#include <kvevict/score/group.hpp>

namespace kvevict {

/// H2O (arXiv 2306.14048): the heavy hitters by accumulated attention of all rows, and the most recent slots.
///
/// Published default: half of the budget for each; `recent` is half, rounded down. Differs from the authors' code:
/// groups are reduced by the mean (they have no GQA), sums are fp32 (theirs have the model's type), and the slot
/// that their simulation hides for one step is not hidden (reference: modify_llama.py of FMInference/H2O).
///
/// Along decode: running sums per query_head that survive evictions; each row's softmax runs over the slots cached
/// when it passes, and a new slot starts with what its own row gives it.
struct h2o {
  static constexpr const char* name = "h2o";
  amount budget = slots(1024);
  amount recent = percent(50);  ///< slots, or a share of the budget
  index_t sinks = 0;

  friend constexpr bool operator==(const h2o&, const h2o&) = default;
  template <class Self, class Visit>
  static constexpr void options(Self& self, Visit&& visit) {
    visit("recent", self.recent);
    visit("sinks", self.sinks);
  }

  [[nodiscard]] constexpr auto scorer() const { return score::accumulated_attention() | score::group_mean{}; }
  [[nodiscard]] constexpr auto rule() const { return budget::uniform{budget}; }
  [[nodiscard]] constexpr protect protection() const { return {sinks, recent}; }
};

}  // namespace kvevict
