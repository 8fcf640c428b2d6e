// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/decode/parts.hpp>
#include <kvevict/view/check.hpp>

namespace kvevict::detail {

/// States that were started for this policy and fit this cache, one per sequence.
template <class Policy, row_feed Feed, class Inputs>
[[nodiscard]] status check_states(const Policy& policy, const decode_states<Feed>& states, const Inputs& in) {
  const cache_shape shape = in.cache.shape();
  if (states.data == nullptr) return {status_code::bad_pointer, "states", "the states are null"};
  if (states.size() < 1 || states.size() != shape.seqs)
    return {status_code::bad_shape, "states", "there must be one state per sequence of the cache"};
  const row_memory m = memory_of(policy.scorer());
  for (index_t i = 0; i < shape.seqs; ++i) {
    if (const status s = states[i].check(); !s.ok()) return s;
    const state_header& h = states[i].header();
    if (h.layers != shape.layers || h.kv_heads != shape.kv_heads)
      return {status_code::bad_shape, "states", "a state was started for other layers or kv_heads"};
    if (h.window != m.window || h.sums != m.sums)
      return {status_code::bad_input, "states", "a state was started for a policy that remembers other rows"};
    const state_header& first = states[0].header();
    if (h.group_size != first.group_size || h.head_dim != first.head_dim)
      return {status_code::bad_shape, "states", "the states of a call need the same query_heads and head_dim"};
  }
  return {};
}

}  // namespace kvevict::detail
