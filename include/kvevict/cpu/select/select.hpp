// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cpu/backend.hpp>
#include <kvevict/cpu/detail/threshold.hpp>
#include <kvevict/select/protect.hpp>
#include <kvevict/select/selection.hpp>

namespace kvevict::detail {

/// Writes the retained slots of one row, ascending: retained[min(budget, scores.count)].
inline void select_row(const span<const float>& scores, index_t budget, const protected_slots& kept, index_t* retained,
                       std::uint32_t* histogram) {
  const auto length = static_cast<index_t>(scores.size());
  index_t written = 0;
  const auto keep = [&](index_t first, index_t last) {
    for (index_t slot = first; slot < last; ++slot) retained[written++] = slot;
  };
  if (budget >= length) return keep(0, length);
  const index_t last = length - kept.recent;
  const index_t free_budget = budget - kept.count();
  keep(0, kept.sinks);
  if (free_budget > 0) {
    index_t above = 0;
    const candidates row{scores.data + kept.sinks, last - kept.sinks, 0};
    const threshold t = find_threshold([&](index_t) { return row; }, 1, free_budget, histogram, &above);
    offset_t ties = t.ties_to_take;
    for (index_t slot = kept.sinks; slot < last; ++slot) {
      const std::uint32_t key = order_key(scores[slot]);
      if (key > t.key || (key == t.key && ties-- > 0)) retained[written++] = slot;
    }
  }
  keep(last, length);
}

/// Selects every row of `scores` into `out`; out.offsets are set before, scratch holds a histogram per worker.
template <class Executor, class Scores, class Protected>
void select_rows(const cpu<Executor>& on, const Scores& scores, const index_t* budgets, const Protected& protection,
                 const selection& out, std::uint32_t* histograms) {
  on.how.run(out.rows(), [&](index_t row, index_t worker) {
    select_row(scores(row), budgets[row], protection(row), out.slots.data + out.offsets[row],
               histograms + static_cast<offset_t>(worker) * digit_values);
  });
}

}  // namespace kvevict::detail
