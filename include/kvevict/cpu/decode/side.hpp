// SPDX-License-Identifier: MIT
#pragma once

#include <cstring>
#include <kvevict/compact/moves.hpp>
#include <kvevict/cpu/decode/parts.hpp>
#include <kvevict/decode/state.hpp>

namespace kvevict {

/// The states of a cache as a side of its compaction: positions, sums and remembered attention follow the retained
/// slots, in token order also where keys and values are swapped.
template <row_feed Feed>
struct state_side {
  decode_states<Feed> states;

  [[nodiscard]] static status check() { return {}; }
  template <class Cache>
  [[nodiscard]] status fits(const Cache& cache) const {
    if (const status s = detail::check_extents(states, cache.shape()); !s.ok()) return s;
    return detail::check_observed(states, cache);
  }
  void retain(const row_id& row, const span<const index_t>& retained) const {
    const detail::state_parts p = states[row.seq].parts();
    const detail::state_header& h = *p.header;
    const offset_t capacity = h.capacity, at = states[row.seq].index(row);
    const auto keep = [&](auto* slots) {
      for (index_t k = 0; k < retained.size(); ++k) slots[k] = slots[retained[k]];
    };
    keep(p.positions + at * capacity);
    for (offset_t i = 0; i < h.sums * h.group_size; ++i) keep(p.sums + (at * h.group_size + i) * capacity);
    if constexpr (Feed == row_feed::attention)
      for (offset_t w = 0; w < h.window; ++w)
        for (offset_t i = 0; i < h.group_size; ++i)
          keep(p.recent + ((w * h.layers * h.kv_heads + at) * h.group_size + i) * capacity);
    p.lengths[at] = static_cast<index_t>(retained.size());
  }
};

/// `compact_in_place(on, cache, kept, side(states))`; one state or a container of them.
template <class States>
requires requires(const States& of) { states_of(of); }
[[nodiscard]] auto side(const States& of) {
  return state_side<std::remove_cvref_t<decltype(*states_of(of).data)>::feed>{states_of(of)};
}

}  // namespace kvevict
