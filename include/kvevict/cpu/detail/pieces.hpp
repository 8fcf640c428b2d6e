// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cpu/backend.hpp>

namespace kvevict::detail {

/// Runs tasks of a microsecond each, where handing them out one by one costs as much: one piece per worker, neighbours
/// together, pieces of about the same `cost`, which is at least 1 per task. The same tasks make the same pieces at each
/// call, so what one left in the caches of a core is mostly found there by the next.
template <class Executor, class Cost, class Task>
void run_in_pieces(const Executor& how, index_t tasks, const Cost& cost, const Task& task) {
  const index_t pieces = how.workers();
  if (pieces == 1) return how.run(tasks, task);
  offset_t total = 0;
  for (index_t t = 0; t < tasks; ++t) total += cost(t);
  how.run(pieces, [&](index_t piece, index_t worker) {
    const offset_t first = total * piece / pieces, last = total * (piece + 1) / pieces;
    offset_t before = 0;
    for (index_t t = 0; t < tasks && before < last; ++t) {
      if (before >= first) task(t, worker);
      before += cost(t);
    }
  });
}

}  // namespace kvevict::detail
