// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cpu/backend.hpp>
#include <kvevict/cpu/detail/bits.hpp>
#include <kvevict/cpu/detail/threshold.hpp>
#include <kvevict/select/protect.hpp>
#include <kvevict/select/selection.hpp>

namespace kvevict::detail {

/// Writes the slots of a row that stay, in order: out[total], `first` being the slot of the first score.
template <class Order>
void write_selected(Order order, const score_blocks& blocks, const threshold& t, index_t first, index_t* out,
                    index_t total) {
  const index_t* const end = out + total;
  offset_t ties = t.ties;
  for (index_t b = 0; b < blocks.size(); ++b, first += scan_block) {
    const std::uint32_t filled = inside(blocks.filled(b));
    std::uint32_t stays = at_least(order, blocks[b], t.certain) & filled;
    if (ties > 0)
      each_bit(at_least(order, blocks[b], t.certain - 1) & filled & ~stays, [&](index_t j) {
        if (ties-- > 0) stays |= std::uint32_t{1} << j;
      });
    if (end - out >= scan_block + spill)
      out += write_bits(stays, first, out);
    else
      each_bit(stays, [&](index_t j) { *out++ = first + j; });
  }
}
inline void write_selected(const float* scores, index_t count, const threshold& t, index_t first, index_t* out,
                           index_t total) {
  in_order_of(t.certain - (t.ties > 0 ? 1 : 0), t.certain,
              [&](auto order) { write_selected(order, score_blocks(scores, count), t, first, out, total); });
}

/// Writes the retained slots of one row, ascending: retained[min(budget, length)]. Where it takes a choice,
/// `find(scores, count, n)` is the threshold that n of the evictable slots pass.
template <class Find>
void select_row(const span<const float>& scores, index_t budget, const protected_slots& kept, index_t* retained,
                const Find& find) {
  const auto keep = [&](index_t first, index_t last, index_t* to) {
    for (index_t slot = first; slot < last; ++slot) *to++ = slot;
  };
  const auto length = static_cast<index_t>(scores.size());
  if (budget >= length) return keep(0, length, retained);
  const index_t last = length - kept.recent, free_budget = budget - kept.count(), count = last - kept.sinks;
  keep(0, kept.sinks, retained);
  keep(last, length, retained + kept.sinks + free_budget);
  if (free_budget < 1) return;
  const float* const of = scores.data + kept.sinks;
  write_selected(of, count, find(of, count, free_budget), kept.sinks, retained + kept.sinks, free_budget);
}
inline void select_row(const span<const float>& scores, index_t budget, const protected_slots& kept,
                       index_t* retained) {
  select_row(scores, budget, kept, retained,
             [](const float* of, index_t count, index_t n) { return find_threshold(of, count, n); });
}

}  // namespace kvevict::detail
