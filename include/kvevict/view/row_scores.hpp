// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/core/ragged.hpp>
#include <kvevict/view/inputs.hpp>

namespace kvevict {

/// Scores that the engine already has, [rows][length]: what `select` works on.
struct row_scores {
  cache_shape shape;
  ragged<const float> scores;
  budget_pool_view pools{};  ///< optional: who shares a joint budget
  offset_t entry_bytes = 0;  ///< bytes of key and value of one slot, for receipts
};

}  // namespace kvevict
