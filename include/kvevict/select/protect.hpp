// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/core/amount.hpp>
#include <kvevict/core/status.hpp>
#include <kvevict/core/types.hpp>

namespace kvevict {

/// The protected slots of one row, counted.
struct protected_slots {
  index_t sinks = 0;
  index_t recent = 0;

  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr index_t count() const { return sinks + recent; }
};

/// Slots that are never evicted. They are inside the budget and outside the candidates:
///
///     slot    0 .. sinks | ........ evictable ........ | .. recent .. length
///
/// `recent` is a number of slots, or a share of the row's nominal budget (H2O: half).
struct protect {
  index_t sinks = 0;
  amount recent{};
  friend constexpr bool operator==(const protect&, const protect&) = default;

  /// For a row of `length` slots with that nominal budget; a short row has no more protected slots than slots.
  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr protected_slots of(index_t length, index_t budget) const {
    const index_t first = least(sinks, length);
    const offset_t last = least(recent.of(budget), static_cast<offset_t>(length - first));
    return {first, static_cast<index_t>(last)};
  }
  [[nodiscard]] constexpr status check() const {
    if (sinks < 0) return {status_code::bad_option, "sinks", "sinks must not be negative"};
    if (recent.negative()) return {status_code::bad_option, "recent", "recent must not be negative"};
    return {};
  }
};

}  // namespace kvevict
