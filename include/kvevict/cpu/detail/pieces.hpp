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

/// A group of fewer slots is one worker's: the steps of a search then take about as long as handing them out, or less
/// (of 4116 slots two threads took up to four times as long as one).
inline constexpr offset_t least_shared = offset_t{1} << 14;

/// Runs groups of tasks side by side, or, where there are fewer groups than workers, one after the other and the tasks
/// of each in pieces, if its `slots` are worth it: `group(g, worker, each)`, in which `each(n, f)` calls f(t) for every
/// task t below n.
template <class Executor, class Slots, class Group>
void run_in_groups(const Executor& how, index_t groups, const Slots& slots, const Group& group) {
  const auto in_turn = [](index_t n, const auto& f) {
    for (index_t t = 0; t < n; ++t) f(t);
  };
  const auto in_pieces = [&](index_t n, const auto& f) {
    run_in_pieces(
        how, n, [](index_t) { return index_t{1}; }, [&](index_t t, index_t) { f(t); });
  };
  if (groups >= how.workers()) return how.run(groups, [&](index_t g, index_t worker) { group(g, worker, in_turn); });
  for (index_t g = 0; g < groups; ++g)
    if (slots(g) < least_shared)
      group(g, index_t{0}, in_turn);
    else
      group(g, index_t{0}, in_pieces);
}

}  // namespace kvevict::detail
