// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/policy/policy.hpp>
#include <kvevict/score/position.hpp>
#include <limits>

namespace kvevict {

/// Evicts nothing, whatever the budget: the reference that others are measured against.
struct full {
  static constexpr const char* name = "full";
  amount budget = percent(100);  ///< accepted and ignored, so that every policy takes one

  friend constexpr bool operator==(const full&, const full&) = default;
  template <class Self, class Visit>
  static constexpr void options(Self&, Visit&&) {}

  [[nodiscard]] constexpr auto scorer() const { return score::recency{}; }
  [[nodiscard]] constexpr auto rule() const { return budget::uniform{slots(std::numeric_limits<index_t>::max())}; }
  [[nodiscard]] constexpr protect protection() const { return {}; }
};

}  // namespace kvevict
