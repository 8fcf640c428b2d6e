// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/decode/parts.hpp>
#include <kvevict/view/check.hpp>

namespace kvevict {

template <row_feed Feed>
struct device_states;

namespace detail {

/// A state as kernels see it: where its parts are follows from what the host said, never from what its bytes say.
template <row_feed Feed>
struct placed_state {
  const device_states<Feed>& all;
  index_t seq;

  [[nodiscard]] KVEVICT_HOST_DEVICE const state_header& header() const { return all.layout; }
  [[nodiscard]] KVEVICT_HOST_DEVICE state_parts parts() const {
    carver from(all.bytes.data + all.stride * (all.which != nullptr ? all.which[seq] : seq));
    return state_parts::take(from, all.layout);
  }
  [[nodiscard]] KVEVICT_HOST_DEVICE offset_t index(const row_id& row) const {
    return static_cast<offset_t>(row.layer) * all.layout.kv_heads + row.kv_head;
  }
  /// Slots of a row as of the last call.
  [[nodiscard]] KVEVICT_HOST_DEVICE index_t length(const row_id& row) const {
    return greatest(0, least(parts().lengths[index(row)], all.layout.capacity));
  }
};

}  // namespace detail

/// The states of the sequences of a call (decode/state.hpp) where their bytes are memory of the device. The host cannot
/// look into them, so it says beside them what `start` was told; all states of a call have the same extents.
///
/// @code{.cu}
/// const sequence_extent extent{.shape = {layers, 1, kv_heads}, .capacity = capacity, .query_heads = query_heads};
/// status s = start(gpu{stream}, policy, extent, decode_state{piece});  // whenever a sequence begins
/// const device_states states{policy, extent, pool, table};             // table[seq], on the device: which piece
/// @endcode
///
/// Such a state has the bytes that the CPU's would have: it may be copied to the host, be looked into, and go on there.
template <row_feed Feed = row_feed::queries>
struct device_states {
  static constexpr row_feed feed = Feed;

  detail::state_header layout{};   ///< the extents of every state
  offset_t stride = 0;             ///< `state_bytes`
  workspace bytes{};               ///< states one after another
  const index_t* which = nullptr;  ///< [seqs], on the device: the state of each sequence; null: the i-th has the i-th

  /// `prompt_length` and `sequence` of the extent are not read: `start` has written those of each.
  template <eviction_policy Policy>
  device_states(const Policy& policy, const sequence_extent& extent, const workspace& states,
                const index_t* table = nullptr)
      : layout(detail::header_of<Feed>(policy, extent)),
        stride(layout.plausible() ? detail::state_bytes(layout) : 0),
        bytes(states),
        which(table) {}

  [[nodiscard]] KVEVICT_HOST_DEVICE detail::placed_state<Feed> operator[](index_t seq) const { return {*this, seq}; }

  /// What the host can know of them.
  [[nodiscard]] status check() const {
    if (bytes.data == nullptr) return {status_code::bad_pointer, "states", "the states are null"};
    if (!layout.plausible()) return {status_code::bad_shape, "states", "start refuses states of such extents"};
    if (reinterpret_cast<std::uintptr_t>(bytes.data) % workspace_alignment != 0)
      return {status_code::small_output, "states", "a state must start at a multiple of 64 bytes"};
    if (bytes.size() < stride) return {status_code::small_output, "states", "a state was cut short", stride};
    return {};
  }
};
template <eviction_policy Policy>
device_states(const Policy&, const sequence_extent&, const workspace&) -> device_states<>;
template <eviction_policy Policy>
device_states(const Policy&, const sequence_extent&, const workspace&, const index_t*) -> device_states<>;

namespace detail {

/// States of such extents, one per sequence, as far as the host knows.
template <row_feed Feed>
[[nodiscard]] status check_extents(const device_states<Feed>& states, const cache_shape& shape) {
  if (const status s = states.check(); !s.ok()) return s;
  const state_header& h = states.layout;
  const offset_t needed = states.stride * shape.seqs;
  if (states.which == nullptr && states.bytes.size() < needed)
    return {status_code::small_output, "states", "there must be one state per sequence of the cache", needed};
  if (h.layers != shape.layers || h.kv_heads != shape.kv_heads)
    return {status_code::bad_shape, "states", "a state was started for other layers or kv_heads"};
  return {};
}

/// States that were started for this policy and fit this cache, as far as the host knows.
template <class Policy, row_feed Feed, class Inputs>
[[nodiscard]] status check_states(const Policy& policy, const device_states<Feed>& states, const Inputs& in) {
  if (const status s = check(policy); !s.ok()) return s;
  if (const status s = check_entries(in.cache); !s.ok()) return s;
  if (const status s = check_extents(states, in.cache.shape()); !s.ok()) return s;
  const state_header& h = states.layout;
  const row_memory m = memory_of(policy.scorer());
  if (h.window != m.window || h.sums != m.sums)
    return {status_code::bad_input, "states", "a state was started for a policy that remembers other rows"};
  return {};
}

}  // namespace detail

}  // namespace kvevict
