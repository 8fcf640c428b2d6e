// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/decode/parts.hpp>
#include <kvevict/view/check.hpp>

namespace kvevict {

/// The states of the sequences of a call (decode/state.hpp) where their bytes are memory of the device. The host cannot
/// look into them, so it says beside them what `start` was told; all states of a call have the same extents.
///
/// @code{.cu}
/// const sequence_extent extent{.shape = {layers, 1, kv_heads}, .capacity = capacity, .query_heads = query_heads};
/// start(gpu{stream}, policy, extent, decode_state{piece_of(pool, i)});  // whenever a sequence begins
/// const device_states states{extent, pool, table};                     // table[seq] of the device: which piece
/// @endcode
///
/// Such a state has the bytes that the CPU's has: it may be copied to the host, looked into, and go on there.
template <row_feed Feed = row_feed::queries>
struct device_states {
  static constexpr row_feed feed = Feed;

  sequence_extent extent{};        ///< `prompt_length` and `sequence` are not read: `start` has written them
  workspace bytes{};               ///< states one after another, `state_bytes` each
  const index_t* which = nullptr;  ///< [seqs] of the device: the state of each sequence; null: the i-th has the i-th

  device_states(const sequence_extent& e, const workspace& states, const index_t* table = nullptr)
      : extent(e), bytes(states), which(table) {}
};

namespace detail {

template <row_feed Feed>
struct state_table;

/// One of them as kernels see it: where its parts are follows from what the host said, never from what its bytes say.
template <row_feed Feed>
struct placed_state {
  const state_table<Feed>& of;
  index_t seq;

  [[nodiscard]] KVEVICT_HOST_DEVICE const state_header& header() const { return of.extents; }
  [[nodiscard]] KVEVICT_HOST_DEVICE state_parts parts() const {
    carver from(of.first + of.stride * (of.which != nullptr ? of.which[seq] : seq));
    return state_parts::take(from, of.extents);
  }
  [[nodiscard]] KVEVICT_HOST_DEVICE offset_t index(const row_id& row) const {
    return static_cast<offset_t>(row.layer) * of.extents.kv_heads + row.kv_head;
  }
  /// Slots of a row as of the last call.
  [[nodiscard]] KVEVICT_HOST_DEVICE index_t length(const row_id& row) const {
    return greatest(0, least(parts().lengths[index(row)], of.extents.capacity));
  }
};

/// The states of a call, in a kernel's arguments.
template <row_feed Feed>
struct state_table {
  static constexpr row_feed feed = Feed;
  state_header extents{};
  std::byte* first = nullptr;
  offset_t stride = 0;
  const index_t* which = nullptr;

  [[nodiscard]] KVEVICT_HOST_DEVICE placed_state<Feed> operator[](index_t seq) const { return {*this, seq}; }
};

template <row_feed Feed, class Policy>
[[nodiscard]] state_table<Feed> table_of(const Policy& policy, const device_states<Feed>& states) {
  const state_header header = header_of<Feed>(policy, states.extent);
  return {header, states.bytes.data, state_bytes(header), states.which};
}

/// What the host can know of states for this cache.
template <class Policy, row_feed Feed>
[[nodiscard]] status check_states(const Policy& policy, const device_states<Feed>& states, const cache_shape& shape) {
  if (const status s = check(policy); !s.ok()) return s;
  if (const status s = check(shape); !s.ok()) return s;
  if (states.extent.shape.layers != shape.layers || states.extent.shape.kv_heads != shape.kv_heads)
    return {status_code::bad_shape, "states", "a state was started for other layers or kv_heads"};
  const workspace bytes{states.bytes.data, states.bytes.size()};
  if (const status s = check_start(policy, states.extent, decode_state<Feed>{bytes}); !s.ok()) return s;
  const offset_t needed = state_bytes<Feed>(policy, states.extent) * shape.seqs;
  if (states.which == nullptr && bytes.size() < needed)
    return {status_code::small_output, "states", "there must be one state per sequence of the cache", needed};
  return {};
}

}  // namespace detail

}  // namespace kvevict
