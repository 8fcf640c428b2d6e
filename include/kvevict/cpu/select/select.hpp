// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cpu/backend.hpp>
#include <kvevict/cpu/detail/threshold.hpp>
#include <kvevict/select/protect.hpp>
#include <kvevict/select/selection.hpp>

namespace kvevict::detail {

/// Scratch for one row: that of a search, and the slots that belong to its keys.
struct row_scratch {
  search_scratch search;
  index_t* slots;

  static row_scratch take(carver& from, index_t longest) {
    const search_scratch search = search_scratch::take(from, 1, longest);
    return {search, from.take<index_t>(search.room)};
  }
};

/// Writes the slots of a row that stay, in order: those whose key is above the threshold, and the first
/// `t.ties_to_take` of those that equal it. `keys` are read block by block, `slot_of` gives what is written.
template <class Load, class Slot>
void write_selected(index_t count, const Load& load, const threshold& t, index_t equal, const Slot& slot_of,
                    index_t* out, const index_t* end) {
  // Where every tie is taken, as usual, one comparison says what stays.
  offset_t ties = t.ties_to_take;
  const bool all_ties = ties == equal;
  const std::int32_t certain = all_ties ? t.key : t.key + 1;  // no score has the highest key
  key_block block;
  for (index_t i = 0; i < count; i += scan_block) {
    load(block, i);
    std::uint32_t stays = block.at_least(certain) & inside(count - i);
    if (!all_ties && ties > 0)
      each_bit(block.at_least(t.key) & inside(count - i) & ~stays, [&](index_t j) {
        if (ties-- > 0) stays |= std::uint32_t{1} << j;
      });
    if (end - out >= scan_block + spill)
      out += write_bits(stays, out, [&](index_t j) { return slot_of(i + j); });
    else
      each_bit(stays, [&](index_t j) { *out++ = slot_of(i + j); });
  }
}

/// Copies the slots and keys of a row that are at least the lower end of a sampled bracket, and selects among them:
/// one pass over the scores. Returns false, with nothing written, where the bracket was wrong or too much is inside.
inline bool select_sampled(const candidates& row, index_t total, index_t first_slot, index_t* out,
                           const row_scratch& s) {
  if (row.count <= least_sampled || 2 * static_cast<offset_t>(total) > s.search.room) return false;
  const auto of = [&](index_t) { return row; };
  const bracket b = sampled_bracket(of, 1, row.count, total, s.search);
  key_block block;
  index_t used = 0, above = 0;
  for (index_t i = 0; i < row.count; i += scan_block) {
    if (used + 2 * scan_block > s.search.room) return false;
    block.load(row.scores + i, row.count - i);
    const std::uint32_t stays = block.at_least(b.low) & inside(row.count - i);
    if (b.high != highest_key) above += static_cast<index_t>(std::popcount(block.at_least(b.high + 1)));
    write_bits(stays, s.slots + used, [&](index_t j) { return first_slot + i + j; });
    used += write_bits(stays, s.search.keys + used, [&](index_t j) { return block.key[j]; });
  }
  if (used < total || above >= total) return false;
  const index_t copied = used;
  while (used % scan_block != 0) s.search.keys[used++] = lowest_key;
  const auto at_least = [&](std::int32_t t) {
    return t == b.low ? copied : count_at_least(s.search.keys, used / scan_block, t);
  };
  const std::int32_t key = highest_reaching(b.low, b.high, total, at_least);
  const index_t higher = at_least(key + 1);
  write_selected(
      copied,
      [&](key_block& to, index_t i) { std::memcpy(to.key, s.search.keys + i, sizeof(std::int32_t[scan_block])); },
      {key, total - higher}, at_least(key) - higher, [&](index_t i) { return s.slots[i]; }, out, out + total);
  return true;
}

/// Writes the retained slots of one row, ascending: retained[min(budget, scores.count)].
inline void select_row(const span<const float>& scores, index_t budget, const protected_slots& kept, index_t* retained,
                       const row_scratch& scratch) {
  const auto length = static_cast<index_t>(scores.size());
  const auto keep = [&](index_t first, index_t last, index_t* to) {
    for (index_t slot = first; slot < last; ++slot) *to++ = slot;
  };
  if (budget >= length) return keep(0, length, retained);
  const index_t last = length - kept.recent, free_budget = budget - kept.count();
  keep(0, kept.sinks, retained);
  keep(last, length, retained + kept.sinks + free_budget);
  if (free_budget < 1) return;
  index_t* const chosen = retained + kept.sinks;
  const candidates row{scores.data + kept.sinks, last - kept.sinks, 0};
  if (select_sampled(row, free_budget, kept.sinks, chosen, scratch)) return;
  const threshold t = find_threshold([&](index_t) { return row; }, 1, free_budget, scratch.search);
  write_selected(
      row.count, [&](key_block& to, index_t i) { to.load(row.scores + i, row.count - i); }, t, scratch.search.equal[0],
      [&](index_t i) { return kept.sinks + i; }, chosen, chosen + free_budget);
}

/// Selects every row of `scores` into `out`; out.offsets are set before.
template <class Executor, class Scores, class Protected>
void select_rows(const cpu<Executor>& on, const Scores& scores, const index_t* budgets, const Protected& protection,
                 const selection& out, std::byte* scratch, offset_t scratch_bytes, index_t longest) {
  on.how.run(out.rows(), [&](index_t row, index_t worker) {
    carver place(scratch + worker * scratch_bytes);
    select_row(scores(row), budgets[row], protection(row), out.slots.data + out.offsets[row],
               row_scratch::take(place, longest));
  });
}

}  // namespace kvevict::detail
