// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cpu/backend.hpp>
#include <kvevict/cpu/detail/turn_key.hpp>
#include <kvevict/view/check.hpp>

namespace kvevict {

/// Turns the cached keys from the positions they were written at to others, in place: for engines that close the gaps
/// which an eviction leaves in the positions. Optional; without it keys keep the positions that their tokens had. A
/// compaction does the same while it moves them if it is given `turned_keys` (compact/rope.hpp).
///
/// Key of slot j, pair i: turned by (to[j] - from[j]) * frequencies[i], angles and their sines in double, the result
/// rounded once to the element. A slot whose position stays is not touched. fp32, fp16 and bf16 keys.
template <class Executor, cache_view Cache>
status rotate_keys(const cpu<Executor>& on, const Cache& cache, const rope& embedding, const position_view& from,
                   const position_view& to) {
  if (const status s = check(cache); !s.ok()) return s;
  if (const status s = detail::check_rotation(cache, embedding, from, to); !s.ok()) return s;
  const cache_shape shape = cache.shape();
  on.how.run(static_cast<index_t>(shape.rows()), [&](index_t r, index_t) {
    const row_id row = shape.row(r);
    const row_positions before = from.of(row), after = to.of(row);
    for (index_t j = 0; j < cache.length(row); ++j)
      detail::turn_key(cache.keys(), embedding, row, j, static_cast<offset_t>(after(j)) - before(j));
  });
  return {};
}

}  // namespace kvevict
