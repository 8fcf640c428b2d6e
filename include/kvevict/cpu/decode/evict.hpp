// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cpu/decode/observe.hpp>

/// Evictions along decode: the same scorer, budget and protection, on what the states remember (decode/state.hpp).
namespace kvevict {

/// Slots that the selection of an eviction needs; 0 where the call will refuse the states or the extents.
template <eviction_policy Policy, class States, class Inputs>
[[nodiscard]] offset_t selection_capacity(const Policy& policy, const States& of, const Inputs& in) {
  const auto states = states_of(of);
  if (!detail::check_states(policy, states, in).ok()) return 0;
  return selection_capacity(policy, detail::eviction_inputs(in, states));
}

/// Bytes that `observe` and `evict` need; 0 where the call will refuse the states or the extents. Reads the lengths
/// of the cache as they will be at that call.
template <class Executor, eviction_policy Policy, class States, class Inputs>
[[nodiscard]] offset_t workspace_bytes(const cpu<Executor>& on, const Policy& policy, const States& of,
                                       const Inputs& in) {
  const auto states = states_of(of);
  if (!detail::countable(in.cache) || !detail::check_states(policy, states, in).ok()) return 0;
  carver observation, eviction;
  detail::score_memory::take(observation, policy.scorer(), detail::extent_of(in, detail::longest_row(in)),
                             on.how.workers());
  observation.take<index_t>(in.cache.shape().seqs);
  detail::evict_memory::take(eviction, policy, detail::eviction_inputs(in, states), on.how.workers());
  return greatest(observation.bytes(), eviction.bytes());
}

/// Which slots of each row stay, from the states. `in` holds the cache and what is no row (value norms, budget pools);
/// rows that it may hold are not read, so the inputs of `observe` will do. All new slots must have been observed.
/// Changes only `out` and the workspace; a compaction with `side(states)` makes cache and states match.
template <class Executor, eviction_policy Policy, class States, class Inputs>
status evict(const cpu<Executor>& on, const Policy& policy, const States& of, const Inputs& in, const selection& out,
             const workspace& memory) {
  const auto states = states_of(of);
  if (const status s = check(policy); !s.ok()) return s;
  if (const status s = check(in.cache); !s.ok()) return s;
  if (const status s = detail::check_states(policy, states, in); !s.ok()) return s;
  if (const status s = detail::check_observed(states, in.cache); !s.ok()) return s;
  return evict(on, policy, detail::eviction_inputs(in, states), out, memory);
}

}  // namespace kvevict
