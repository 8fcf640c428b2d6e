// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>
#include <kvevict/core/amount.hpp>
#include <kvevict/core/shape.hpp>
#include <kvevict/core/status.hpp>
#include <type_traits>

/// How many slots a row keeps, protected ones included.
///
///     nominal   a pure function of the row's layer and length, known before any score
///     final     nominal, or what remains of it after the rows of a pool have shared (adaptive.hpp)
namespace kvevict::budget {

/// What a rule knows about a row.
struct row_extent {
  row_id row;
  index_t length = 0;
  index_t protected_slots = 0;  ///< with the length as the budget; PyramidKV's schedule never goes below it
};

/// `joint` rules read scores and share between rows; `nominal` is what a row brings into the pool. A result of
/// `length` or more keeps the row whole; a result below 1 is a bad budget.
template <class R>
concept rule = std::is_trivially_copyable_v<R> && requires(const R& r, const cache_shape& shape, const row_extent& e) {
  { R::joint } -> std::convertible_to<bool>;
  { r.nominal(shape, e) } -> std::same_as<offset_t>;
  { r.check() } -> std::same_as<status>;
};

/// A budget that is not negative; whether it is enough for a row is known only with the row.
[[nodiscard]] constexpr status check_size(const amount& size) {
  if (!size.negative() && !(size == amount{})) return {};
  return {status_code::bad_budget, "budget", "the budget must be at least one slot, or a share above 0"};
}

/// The same for every row: `size` slots, or that share of the row's length (rounded down).
struct uniform {
  static constexpr bool joint = false;
  amount size{};
  friend constexpr bool operator==(const uniform&, const uniform&) = default;

  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr offset_t nominal(const cache_shape&, const row_extent& e) const {
    return size.of(e.length);
  }
  [[nodiscard]] constexpr status check() const { return check_size(size); }
};

}  // namespace kvevict::budget
