// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cpu/backend.hpp>
#include <kvevict/select/order.hpp>
#include <kvevict/select/selection.hpp>
#include <limits>

namespace kvevict::detail {

/// Reads the scores of the row once more; only where the caller asks for receipts.
template <class Executor, class Scores, class Plan>
void write_receipts(const cpu<Executor>& on, const Scores& in, const Plan& plan_of, const selection& out) {
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  on.how.run(out.rows(), [&](index_t r, index_t) {
    const auto plan = plan_of(r);
    const span<const index_t> retained = out[r];
    row_receipt& receipt = out.receipts[r];
    receipt.retained = static_cast<index_t>(retained.size());
    receipt.evicted = plan.length - receipt.retained;
    receipt.bytes_freed = receipt.evicted * in.entry_bytes;
    receipt.threshold = nan;
    receipt.score_share = 1;
    if (receipt.evicted == 0) return;
    const span<const float> scores = in.scores[r];
    double all = 0, kept = 0;
    bool shares = true, found = false;
    for (const float s : scores) {
      shares = shares && s >= 0;
      all += static_cast<double>(s);
    }
    for (const index_t slot : retained) {
      kept += static_cast<double>(scores[slot]);
      const bool evictable = slot >= plan.kept.sinks && slot < plan.length - plan.kept.recent;
      if (!evictable || (found && order_key(scores[slot]) >= order_key(receipt.threshold))) continue;
      receipt.threshold = scores[slot];
      found = true;
    }
    receipt.score_share = shares && all > 0 ? static_cast<float>(kept / all) : nan;
  });
}

}  // namespace kvevict::detail
