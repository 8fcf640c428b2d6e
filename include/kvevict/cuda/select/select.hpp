// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/detail/digits.hpp>
#include <kvevict/cuda/select/receipt.hpp>
#include <kvevict/policy/plan.hpp>
#include <kvevict/select/selection.hpp>
#include <kvevict/view/inputs.hpp>

/// Slots from scores and budgets, a block per row. One source for the device and for tests (detail/block.hpp).
namespace kvevict::detail {

/// What a selection kernel works on. All memory is the device's.
template <class Rule>
struct select_task {
  Rule rule;
  protect protection;
  cache_shape shape;
  const float* scores = nullptr;
  const offset_t* score_offsets = nullptr;  ///< [rows + 1]
  budget_pool_view pools{};                 ///< who shares a budget
  const index_t* budgets = nullptr;         ///< [rows], shared ones; null: what the rule gives each row alone
  index_t* slots = nullptr;
  offset_t slots_room = 0;
  offset_t* offsets = nullptr;      ///< [rows + 1]
  row_receipt* receipts = nullptr;  ///< [rows], or null
  offset_t entry_bytes = 0;

  [[nodiscard]] KVEVICT_HOST_DEVICE index_t length(index_t row) const {
    return static_cast<index_t>(score_offsets[row + 1] - score_offsets[row]);
  }
  [[nodiscard]] KVEVICT_HOST_DEVICE row_plan plan(index_t row) const {
    return plan_row(rule, protection, shape, shape.row(row), length(row), length(row));
  }
  /// Slots that a row retains. One whose budget is impossible is kept whole: nothing is lost by mistake.
  [[nodiscard]] KVEVICT_HOST_DEVICE index_t retained(index_t row) const {
    if (budgets != nullptr) return budgets[row];
    const row_plan p = plan(row);
    return p.possible() ? p.alone() : p.length;
  }
  /// Evictable slots that a row brings into its pool. One whose budget is impossible is kept whole there too.
  [[nodiscard]] KVEVICT_HOST_DEVICE static constexpr index_t free_budget(const row_plan& p) {
    return p.possible() ? p.nominal - p.kept.count() : p.room();
  }
};

/// Shared memory of a selection: that of a search, and a value of each kind per warp.
template <class Block>
struct selection_memory {
  digit_memory<Block> digits;
  decltype(std::declval<Block&>().template shared<offset_t>(0)) sums;
  typename digit_memory<Block>::words stays_of, ties_of;
  decltype(std::declval<Block&>().template shared<double>(0)) doubles;

  KVEVICT_HOST_DEVICE static selection_memory take(Block& b) {
    const auto digits = digit_memory<Block>::take(b);
    const auto sums = b.template shared<offset_t>(warp_threads);
    const auto stays = b.template shared<index_t>(warp_threads), ties = b.template shared<index_t>(warp_threads);
    return {digits, sums, stays, ties, b.template shared<double>(warp_threads)};
  }
};
inline constexpr offset_t selection_memory_bytes =
    digit_memory_bytes + warp_threads * (sizeof(offset_t) + 2 * sizeof(index_t) + sizeof(double));

/// Writes the slots with scores that stay, ascending: every warp takes a stretch of the row, counts what stays in it,
/// and writes it behind what the warps before it keep.
template <class Block, class Shared>
KVEVICT_HOST_DEVICE void write_selected(Block& b, const float* scores, index_t count, row_threshold limit,
                                        index_t first_slot, index_t* out, const Shared& stays_of,
                                        const Shared& ties_of) {
  const int warps = b.threads() / warp_threads;
  const offset_t steps = (static_cast<offset_t>(count) + b.threads() - 1) / b.threads();
  auto stays = b.template make_local<bool>(), ties = b.template make_local<bool>();
  auto stays_before = b.template make_local<index_t>(), ties_before = b.template make_local<index_t>();
  const auto slot_of = [&](int t, offset_t step) {
    return (t / warp_threads * steps + step) * warp_threads + t % warp_threads;
  };
  const auto look = [&](offset_t step) {
    b.each([&](int t) {
      const offset_t i = slot_of(t, step);
      const std::uint32_t key = i < count ? radix_key(scores[i]) : 0;
      stays[t] = i < count && key > limit.key;
      ties[t] = i < count && key == limit.key;
    });
  };
  b.each([&](int t) { stays_before[t] = ties_before[t] = 0; });
  for (offset_t step = 0; step < steps; ++step) {
    look(step);
    const auto stay = b.ballot(stays), tie = b.ballot(ties);
    b.each([&](int t) {
      stays_before[t] += bits_set(stay[t]);
      ties_before[t] += bits_set(tie[t]);
    });
  }
  b.each([&](int t) {
    if (t % warp_threads != 0) return;
    stays_of.store(t, t / warp_threads, stays_before[t]);
    ties_of.store(t, t / warp_threads, ties_before[t]);
  });
  b.sync();
  b.each([&](int t) {
    stays_before[t] = ties_before[t] = 0;
    KVEVICT_ROLLED for (int w = 0; w < t / warp_threads && w < warps; ++w) {
      stays_before[t] += stays_of.load(t, w);
      ties_before[t] += ties_of.load(t, w);
    }
  });
  for (offset_t step = 0; step < steps; ++step) {
    look(step);
    const auto stay = b.ballot(stays), tie = b.ballot(ties);
    b.each([&](int t) {
      const index_t ties_here = ties_before[t] + bits_set(tie[t] & lanes_below(t));
      if (stays[t] || (ties[t] && ties_here < limit.ties))
        out[stays_before[t] + bits_set(stay[t] & lanes_below(t)) + least(ties_here, limit.ties)] =
            first_slot + static_cast<index_t>(slot_of(t, step));
      stays_before[t] += bits_set(stay[t]);
      ties_before[t] += bits_set(tie[t]);
    });
  }
  b.sync();
}

/// Offset, slots and receipt of a row that retains `kept` slots behind the `first` ones of the rows before it.
template <class Block, class Rule>
KVEVICT_HOST_DEVICE void write_selection(Block& b, const select_task<Rule>& task, index_t row, offset_t first,
                                         index_t kept, const selection_memory<Block>& memory) {
  const auto rows = static_cast<index_t>(task.shape.rows());
  const row_plan plan = task.plan(row);
  b.each([&](int t) {
    if (t != 0) return;
    task.offsets[row] = first;
    if (row == rows - 1) task.offsets[rows] = first + kept;
  });
  if (first + kept > task.slots_room) return;

  index_t* const out = task.slots + first;
  const index_t sinks = kept < plan.length ? plan.kept.sinks : kept;
  const index_t recent = kept < plan.length ? plan.kept.recent : 0;
  const index_t free_budget = kept - sinks - recent;
  b.each([&](int t) {
    for (index_t i = t; i < sinks; i += b.threads()) out[i] = i;
    for (index_t i = t; i < recent; i += b.threads()) out[kept - recent + i] = plan.length - recent + i;
  });
  const float* const scores = task.scores + task.score_offsets[row];
  row_threshold limit{};
  if (free_budget > 0) {
    const index_t count = plan.length - sinks - recent;
    limit = find_threshold(b, scores + sinks, count, free_budget, memory.digits);
    write_selected(b, scores + sinks, count, limit, sinks, out + sinks, memory.stays_of, memory.ties_of);
  }
  if (task.receipts != nullptr)
    write_receipt(b, scores, plan, out, kept, limit.key, free_budget > 0, task.entry_bytes, task.receipts + row,
                  memory.doubles);
}

/// The kernel: the row that the block has, whose budget is known.
template <class Block, class Rule>
KVEVICT_HOST_DEVICE void select_row(Block& b, const select_task<Rule>& task) {
  const auto memory = selection_memory<Block>::take(b);
  const index_t row = b.index();
  auto own = b.template make_local<offset_t>(), before = b.template make_local<offset_t>();
  b.each([&](int t) {
    own[t] = 0;
    KVEVICT_ROLLED for (index_t r = t; r < row; r += b.threads()) own[t] += task.retained(r);
  });
  const offset_t first = exclusive_sums<offset_t>(b, own, before, memory.sums);
  write_selection(b, task, row, first, task.retained(row), memory);
}

}  // namespace kvevict::detail
