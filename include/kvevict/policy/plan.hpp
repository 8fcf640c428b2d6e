// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/budget/rule.hpp>
#include <kvevict/select/protect.hpp>

namespace kvevict::detail {

/// A row as the budget and the protection see it; what a policy means for it before any score.
struct row_plan {
  index_t length = 0;
  index_t nominal = 0;  ///< what the budget rule gives; may exceed the length
  protected_slots kept;
  bool whole = false;  ///< the budget covers the row

  /// Slots that the row keeps if it shares with no other.
  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr index_t alone() const { return least(nominal, length); }
  /// Slots that may be evicted.
  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr index_t room() const { return length - kept.count(); }
  /// Whether the budget is one that can be met.
  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr bool possible() const {
    return whole || (nominal >= 1 && nominal >= kept.count());
  }
};

template <budget::rule Rule>
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr row_plan plan_row(const Rule& rule, const protect& protection,
                                                              const cache_shape& shape, const row_id& row,
                                                              index_t length, index_t budget_length) {
  // A schedule over layers needs the protected slots, and a share of the budget is protected only once the budget is
  // known: a rule that reads protected slots sees those of the plain length.
  const budget::row_extent extent{row, budget_length, protection.of(budget_length, budget_length).count()};
  const offset_t nominal = rule.nominal(shape, extent);
  constexpr offset_t most = 0x7fffffff;
  const auto size = static_cast<index_t>(greatest<offset_t>(0, least(nominal, most)));
  return {length, size, protection.of(length, size), nominal >= length};
}

}  // namespace kvevict::detail
