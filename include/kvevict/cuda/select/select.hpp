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
  const index_t* budget_lengths = nullptr;  ///< [rows], what budgets refer to; null: the lengths
  const index_t* budgets = nullptr;         ///< [rows], shared ones; null: what the rule gives each row alone
  const row_threshold* limits = nullptr;    ///< [rows], where they are known; or null
  const index_t* reached = nullptr;         ///< digits that were counted for shared budgets (counted_digits); or null
  index_t* slots = nullptr;
  offset_t slots_room = 0;
  offset_t* offsets = nullptr;      ///< [rows + 1]
  row_receipt* receipts = nullptr;  ///< [rows], or null
  offset_t entry_bytes = 0;
  index_t key_fours = 0;  ///< keys, by fours, for which a block has shared memory

  [[nodiscard]] KVEVICT_HOST_DEVICE index_t length(index_t row) const {
    return static_cast<index_t>(score_offsets[row + 1] - score_offsets[row]);
  }
  [[nodiscard]] KVEVICT_HOST_DEVICE row_plan plan(index_t row) const {
    const index_t of = budget_lengths != nullptr ? budget_lengths[row] : length(row);
    return plan_row(rule, protection, shape, shape.row(row), length(row), of);
  }
  [[nodiscard]] KVEVICT_HOST_DEVICE const float* scores_of(index_t row) const { return scores + score_offsets[row]; }
  /// Slots that a row retains. One whose budget is impossible is kept whole: nothing is lost by mistake.
  [[nodiscard]] KVEVICT_HOST_DEVICE index_t retained(index_t row) const {
    if (budgets != nullptr) return budgets[row];
    const row_plan p = plan(row);
    return p.possible() ? p.alone() : p.length;
  }
  [[nodiscard]] KVEVICT_HOST_DEVICE row_threshold limit(index_t row) const {
    return limits != nullptr ? limits[row] : row_threshold::unknown();
  }
  /// What is known of a row's digits where its limit is not.
  [[nodiscard]] KVEVICT_HOST_DEVICE auto counted(index_t row, row_threshold unknown) const {
    if constexpr (Rule::joint)
      return counted_digits{reached, shape.rows(), row, unknown.key};
    else
      return nothing_counted{};
  }
};

/// Evictable slots that a row brings into its pool. One whose budget is impossible is kept whole there too.
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr index_t evictable_budget(const row_plan& p) {
  return p.possible() ? p.nominal - p.kept.count() : p.room();
}

/// Shared memory of a selection: that of a search, a value of each kind per warp, and keys.
template <class Block>
struct selection_memory {
  digit_memory<Block> digits;
  decltype(std::declval<Block&>().template shared<offset_t>(0)) sums;
  decltype(std::declval<Block&>().template shared<double>(0)) doubles;
  key_room<Block> keys;

  KVEVICT_HOST_DEVICE static selection_memory take(Block& b, index_t key_fours = 0, index_t list_room = 0) {
    const auto digits = digit_memory<Block>::take(b);
    const auto sums = b.template shared<offset_t>(warp_threads);
    const auto doubles = b.template shared<double>(warp_threads);
    return {digits, sums, doubles, key_room<Block>::take(b, key_fours, list_room)};
  }
};
inline constexpr offset_t selection_memory_bytes =
    digit_memory_bytes + warp_threads * (sizeof(offset_t) + sizeof(double));

/// Writes the slots with scores that stay, ascending. A stretch of the row at a time, every key that stays or ties
/// leaves a bit in shared memory; then a thread has some words of these bits, and writes behind those before it.
template <class Block>
KVEVICT_HOST_DEVICE void write_selected(Block& b, row_keys<Block>& row, row_threshold limit, index_t first_slot,
                                        index_t* out, const selection_memory<Block>& memory) {
  constexpr index_t most_words = radix_bins / 2, fours_of_word = 8, most_fours = most_words * fours_of_word;
  const auto& bits = memory.digits.bins;                       // first those that stay, then ties
  auto own = b.template make_local<offset_t>(), before = own;  // stays and, 2^32 each, ties
  offset_t so_far = 0;
  KVEVICT_ROLLED for (index_t start = 0; start < row.fours(); start += most_fours) {
    const index_t fours = least(row.fours() - start, most_fours), words = (fours + fours_of_word - 1) / fours_of_word;
    b.each([&](int t) {
      KVEVICT_ROLLED for (index_t i = t; i < words; i += b.threads()) {
        bits.store(t, i, 0);
        bits.store(t, most_words + i, 0);
      }
    });
    b.sync();
    b.each([&](int t) {
      KVEVICT_ROLLED for (index_t four = t * fours_at_once; four < fours; four += fours_at_once * b.threads()) {
        const key_batch keys = row.load(b, t, start + four);
        std::uint32_t stay = 0, tie = 0;
        KVEVICT_UNROLLED for (int i = 0; i < 4 * fours_at_once; ++i) {
          const std::uint32_t key = keys.of[i / 4].x[i % 4];
          stay |= (key > limit.key ? 1u : 0u) << i;
          tie |= (key == limit.key ? 1u : 0u) << i;
        }
        // Absent keys tie with NaN. Those behind the row come after all ties.
        if (start + four == 0) tie &= ~0u << row.before();
        const index_t word = four / fours_of_word, shift = four % fours_of_word * 4;
        if (stay != 0) bits.add(t, word, static_cast<index_t>(stay << shift));
        if (tie != 0) bits.add(t, most_words + word, static_cast<index_t>(tie << shift));
      }
    });
    b.sync();
    const index_t words_of_thread = (words + b.threads() - 1) / b.threads();
    const auto each_word = [&](int t, const auto& f) {
      const offset_t first = static_cast<offset_t>(t) * words_of_thread;
      KVEVICT_ROLLED for (offset_t w = first; w < first + words_of_thread && w < words; ++w)
          f(w, static_cast<std::uint32_t>(bits.load(t, w)), static_cast<std::uint32_t>(bits.load(t, most_words + w)));
    };
    b.each([&](int t) {
      own[t] = 0;
      each_word(t, [&](offset_t, std::uint32_t stay, std::uint32_t tie) {
        own[t] += bits_set(stay) + (static_cast<offset_t>(bits_set(tie)) << 32);
      });
    });
    const offset_t all = exclusive_sums<offset_t>(b, own, before, memory.sums);
    b.each([&](int t) {
      auto stays = static_cast<index_t>((so_far + before[t]) & 0x7fffffff);
      auto ties = static_cast<index_t>((so_far + before[t]) >> 32);
      each_word(t, [&](offset_t w, std::uint32_t stay, std::uint32_t tie) {
        const std::uint32_t slot = row.slot(start + static_cast<index_t>(w) * fours_of_word);
        KVEVICT_ROLLED for (std::uint32_t left = stay | tie; left != 0; left &= left - 1) {
          const auto i = static_cast<std::uint32_t>(bits_set(~left & (left - 1)));  // the lowest bit
          const bool ties_here = (tie >> i & 1) != 0;
          if (!ties_here || ties < limit.ties)
            out[stays + least(ties, limit.ties)] = first_slot + static_cast<index_t>(slot + i);
          (ties_here ? ties : stays) += 1;
        }
      });
    });
    so_far += all;
    b.sync();
  }
}

/// out[kept] = the slots of a row that stay, ascending: the protected ones and the best of the others, which `limit`
/// divides from the rest if it is known.
template <class Block, class Counted = nothing_counted>
KVEVICT_HOST_DEVICE void write_retained(Block& b, const float* scores, const row_plan& plan, index_t kept,
                                        row_threshold limit, index_t* out, selection_memory<Block>& memory,
                                        const Counted& counted = {}) {
  const index_t sinks = kept < plan.length ? plan.kept.sinks : kept;
  const index_t recent = kept < plan.length ? plan.kept.recent : 0;
  const index_t free_budget = kept - sinks - recent;
  b.each([&](int t) {
    KVEVICT_ROLLED for (index_t i = t; i < sinks; i += b.threads()) out[i] = i;
    KVEVICT_ROLLED for (index_t i = t; i < recent; i += b.threads()) out[kept - recent + i] = plan.length - recent + i;
  });
  if (free_budget <= 0) return;
  row_keys<Block> row(scores + sinks, plan.length - sinks - recent, memory.keys);
  if (!limit.known()) limit = find_threshold(b, row, free_budget, memory.digits, counted);
  write_selected(b, row, limit, sinks, out + sinks, memory);
}

/// Offset, slots and receipt of a row that retains `kept` slots behind the `first` ones of the rows before it.
template <class Block, class Rule>
KVEVICT_HOST_DEVICE void write_selection(Block& b, const select_task<Rule>& task, index_t row, offset_t first,
                                         index_t kept, row_threshold limit, selection_memory<Block>& memory) {
  const auto rows = static_cast<index_t>(task.shape.rows());
  const row_plan plan = task.plan(row);
  b.each([&](int t) {
    if (t != 0) return;
    task.offsets[row] = first;
    if (row == rows - 1) task.offsets[rows] = first + kept;
  });
  if (first + kept > task.slots_room) return;

  index_t* const out = task.slots + first;
  const float* const scores = task.scores_of(row);
  write_retained(b, scores, plan, kept, limit, out, memory, task.counted(row, limit));
  if (task.receipts != nullptr)
    write_receipt(b, scores, plan, out, kept, task.entry_bytes, task.receipts + row, memory.doubles);
}

/// The kernel: the row that the block has, whose budget is known.
template <class Block, class Rule>
KVEVICT_HOST_DEVICE void select_row(Block& b, const select_task<Rule>& task) {
  auto memory = selection_memory<Block>::take(b, task.key_fours, most_listed_keys);
  const index_t row = b.index();
  auto own = b.template make_local<offset_t>(), before = b.template make_local<offset_t>();
  b.each([&](int t) {
    own[t] = 0;
    KVEVICT_ROLLED for (index_t r = t; r < row; r += b.threads()) own[t] += task.retained(r);
  });
  const offset_t first = exclusive_sums<offset_t>(b, own, before, memory.sums);
  write_selection(b, task, row, first, task.retained(row), task.limit(row), memory);
}

}  // namespace kvevict::detail
