// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cpu/backend.hpp>
#include <kvevict/cpu/detail/copy_entry.hpp>
#include <kvevict/view/reordered.hpp>

namespace kvevict {
namespace detail {

/// Calls move(from, to) for the slots of one row, and makes `order` that of the retained tokens.
///
/// With m retained tokens, those that lie at m or beyond go to the places below m that evicted tokens leave; every one
/// of them has to, so no compaction moves fewer. Holes and survivors are met in token order, one after the other.
template <class Move>
void fill_holes(const token_order& order, const row_id& row, index_t length, const span<const index_t>& retained,
                const Move& move) {
  const auto m = static_cast<index_t>(retained.size());
  index_t evicted = 0, next = 0;  // the next evicted token is at or after `evicted`, `next` retained ones before it
  const auto hole = [&] {
    for (; evicted < length; ++evicted) {
      while (next < m && retained[next] < evicted) ++next;
      if ((next == m || retained[next] != evicted) && order(row, evicted) < m) return order(row, evicted++);
    }
    return index_t{-1};
  };
  for (index_t k = 0; k < m; ++k) {
    index_t& place = order(row, retained[k]);
    if (place < m) continue;
    const index_t to = hole();
    if (to < 0) break;
    move(place, to);
    place = to;
  }
  for (index_t k = 0; k < m; ++k) order(row, k) = order(row, retained[k]);
  for (index_t k = m; k < length; ++k) order(row, k) = k;
}

/// A side array moves with the entries; what follows a row as a whole is in token order and stays so.
template <class Side>
void swap_side(const Side& side, const row_id& row, index_t from, index_t to) {
  if constexpr (requires { side.move(row, from, to); }) side.move(row, from, to);
}
template <class Keys, class Side>
void end_side(const Keys& keys, const token_order& order, const Side& side, const row_id& row,
              const span<const index_t>& retained) {
  if constexpr (turns_keys<Side>)
    for (index_t k = 0; k < retained.size(); ++k)
      turn_key(keys, side.embedding, row, order(row, k), side.distance(row, retained[k], k));
  else if constexpr (requires { side.retain(row, retained); })
    side.retain(row, retained);
}

}  // namespace detail

/// Compacts every row with the fewest moves: retained entries from the back fill the holes of the front
/// (compact/moves.hpp). `kept` counts slots in token order, as a selection on `in_token_order(cache, order)` does;
/// `cache` is the memory itself. Side arrays move with the entries; `order` becomes that of what is left. The lengths
/// stay the caller's to update (`retained_lengths`).
template <class Executor, cache_view Cache, slot_side... Sides>
status swap_fill(const cpu<Executor>& on, const Cache& cache, const token_order& order, const selection& kept,
                 const Sides&... sides) {
  if (const status s = check(cache); !s.ok()) return s;
  if (const status s = check_selection_of(cache, kept); !s.ok()) return s;
  if (const status s = order.check(); !s.ok()) return s;
  const cache_shape shape = cache.shape();
  for (row_id row; shape.has(row); row = shape.after(row))
    if (const status s = order.check(row, cache.length(row)); !s.ok()) return s;
  if (const status s = detail::check_sides(cache, sides...); !s.ok()) return s;
  on.how.run(kept.rows(), [&](index_t r, index_t) {
    const row_id row = shape.row(r);
    detail::fill_holes(order, row, cache.length(row), kept[r], [&](index_t from, index_t to) {
      detail::copy_slot(cache, cache, row, from, to);
      (detail::swap_side(sides, row, from, to), ...);
    });
    (detail::end_side(cache.keys(), order, sides, row, kept[r]), ...);
  });
  return {};
}

}  // namespace kvevict
