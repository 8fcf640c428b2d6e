// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/decode/parts.hpp>
#include <kvevict/view/check.hpp>

namespace kvevict::detail {

/// States of such extents, one per sequence.
template <row_feed Feed>
[[nodiscard]] status check_extents(const decode_states<Feed>& states, const cache_shape& shape) {
  if (states.data == nullptr) return {status_code::bad_pointer, "states", "the states are null"};
  if (states.size() < 1 || states.size() != shape.seqs)
    return {status_code::bad_shape, "states", "there must be one state per sequence of the cache"};
  for (const auto& state : states) {
    if (const status s = state.check(); !s.ok()) return s;
    const state_header& h = state.header();
    if (h.layers != shape.layers || h.kv_heads != shape.kv_heads)
      return {status_code::bad_shape, "states", "a state was started for other layers or kv_heads"};
  }
  return {};
}

/// States that have seen what is cached, no less and no more.
template <row_feed Feed, class Cache>
[[nodiscard]] status check_observed(const decode_states<Feed>& states, const Cache& cache) {
  const cache_shape shape = cache.shape();
  for (row_id row; shape.has(row); row = shape.after(row))
    if (cache.length(row) != states[row.seq].length(row))
      return {status_code::bad_shape, "length", "a row has slots that its state has not seen; call observe first"};
  return {};
}

/// States that were started for this policy and fit this cache.
template <class Policy, row_feed Feed, class Inputs>
[[nodiscard]] status check_states(const Policy& policy, const decode_states<Feed>& states, const Inputs& in) {
  if (const status s = check_extents(states, in.cache.shape()); !s.ok()) return s;
  const row_memory m = memory_of(policy.scorer());
  for (const auto& state : states) {
    const state_header& h = state.header();
    if (h.window != m.window || h.sums != m.sums)
      return {status_code::bad_input, "states", "a state was started for a policy that remembers other rows"};
    const state_header& first = states[0].header();
    if (h.group_size != first.group_size || h.head_dim != first.head_dim)
      return {status_code::bad_shape, "states", "the states of a call need the same query_heads and head_dim"};
  }
  return {};
}

}  // namespace kvevict::detail
