// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/core/ragged.hpp>
#include <kvevict/core/status.hpp>
#include <kvevict/core/types.hpp>

namespace kvevict {

/// What an eviction did to one row: proof that it ran, and what it cost.
struct row_receipt {
  index_t retained = 0;
  index_t evicted = 0;
  offset_t bytes_freed = 0;  ///< keys and values of the evicted slots
  float threshold = 0;       ///< lowest score among retained evictable slots (NaN is lowest); NaN where there are none,
                             ///< and where the row was kept whole
  float score_share = 0;     ///< sum of retained scores / sum of all; NaN if a score is negative or NaN or all are 0;
                             ///< 1 where the row was kept whole
};

/// Which slots of each row stay.
///
///     slot      0 .. sinks | ........ evictable ........ | .. recent  length
///     retained  all        | the best budget - protected  | all
///
/// Membership  the protected slots, then the highest scores until `budget` slots are retained.
/// Ties        among equal scores the smaller slot stays. NaN ranks below every number; -0 equals +0.
/// Order       ascending slots, so text keeps its order and compaction can run in place (to <= from).
/// Short rows  length <= budget: every slot is retained; scores are not read, unless the row shares its budget.
/// Shapes      scores [rows][length], budgets [rows], retained [rows][min(budget, length)].
/// Same scores, same selection: on every backend, thread count and run.
///
/// The caller's memory: `slots` has room for what all rows keep (`selection_capacity`), `offsets` for
/// rows + 1, `receipts` for rows or none. An eviction writes them: row r retains
/// slots[offsets[r]] .. slots[offsets[r + 1]] (excluded).
struct selection {
  span<index_t> slots;
  span<offset_t> offsets;
  span<row_receipt> receipts{};

  [[nodiscard]] constexpr index_t rows() const { return static_cast<index_t>(offsets.size() - 1); }
  /// Retained slots of a row, ascending.
  [[nodiscard]] constexpr span<const index_t> operator[](index_t row) const {
    return {slots.data + offsets[row], offsets[row + 1] - offsets[row]};
  }
};

namespace detail {

/// A selection that has room for `rows` rows and, in all, `slots` slots.
[[nodiscard]] inline status check_selection(const selection& out, offset_t rows, offset_t slots) {
  if (out.offsets.data == nullptr) return {status_code::bad_pointer, "offsets", "the selection's offsets are null"};
  if (out.offsets.size() != rows + 1)
    return {status_code::small_output, "offsets", "the selection needs rows + 1 offsets", rows + 1};
  if (out.slots.data == nullptr) return {status_code::bad_pointer, "slots", "the selection's slots are null"};
  if (out.slots.size() < slots)
    return {status_code::small_output, "slots", "the selection has less room than selection_capacity", slots};
  if (!out.receipts.empty() && (out.receipts.data == nullptr || out.receipts.size() != rows))
    return {status_code::small_output, "receipts", "the selection needs one receipt per row, or none", rows};
  return {};
}

}  // namespace detail

}  // namespace kvevict
