// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cpu/backend.hpp>
#include <kvevict/cpu/detail/copy_entry.hpp>

namespace kvevict {

/// Slides the retained entries of every row to its front, in the cache's own memory (compact/moves.hpp). The lengths
/// stay the caller's to update (`retained_lengths`). Rows must not share memory.
template <class Executor, cache_view Cache, slot_side... Sides>
status compact_in_place(const cpu<Executor>& on, const Cache& cache, const selection& kept, const Sides&... sides) {
  static_assert(
      !requires { cache.keys().layout.order; },
      "kvevict: in token order a row's front is scattered; swap_fill compacts such a cache");
  if (const status s = check(cache); !s.ok()) return s;
  if (const status s = check_selection_of(cache, kept); !s.ok()) return s;
  if (const status s = detail::check_sides(cache, sides...); !s.ok()) return s;
  const cache_shape shape = cache.shape();
  const auto where = detail::target_of(cache, kept);
  on.how.run(kept.rows(), [&](index_t r, index_t) {
    index_t same = 0;  // the front that stays where it is
    while (same < kept[r].size() && kept[r][same] == same) ++same;
    detail::move_row(cache, cache, shape.row(r), kept[r], same, where, sides...);
  });
  return {};
}

}  // namespace kvevict
