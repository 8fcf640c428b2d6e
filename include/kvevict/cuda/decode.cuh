// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/compact.cuh>
#include <kvevict/cuda/decode/append.hpp>
#include <kvevict/cuda/decode/evict.hpp>
#include <kvevict/cuda/decode/observe.hpp>
#include <kvevict/cuda/decode/step.hpp>
#include <kvevict/cuda/decode/tasks.hpp>
#include <kvevict/cuda/evict.cuh>
#include <kvevict/decode/append.hpp>

/// Decode on the device (decode/state.hpp): the CPU's calls, with states whose bytes are the device's. All lengths and
/// counters lie there, too, and grids follow from what the host knows, so the calls of one step can be captured into a
/// graph that is replayed for every step.
///
///     a sequence begins   start
///     a prompt, a piece   append, observe, evict, compact_in_place(.., side(states)), retained_lengths
///     a step              append, step: a launch each; or append, observe, evict_in_place
///
/// @code{.cu}
/// const device_states states{policy, extent, pool};
/// status s = append(on, token, view, lengths);
/// if (s.ok()) s = step(on, policy, states, in, lengths, scratch, {.every = 64});
/// @endcode
namespace kvevict {

/// When `evict_in_place` and `step` evict.
struct eviction_pace {
  /// A row is full, and goes back to its budget, once it holds so many slots above it; rows that share a budget are
  /// full once they hold so many above theirs on average. 1: at each step. Rows need as much slack.
  index_t every = 1;
};

namespace detail {

inline constexpr int append_threads = 256, observe_threads = 256;
/// Of `make_room`: where it multiplies, a thread needs more registers, and still more where budgets are shared.
template <class Task>
inline constexpr int room_threads = Task::multiplies && !Task::joint ? 384 : 256;
/// Else a row waits for the memory while another one does, and the 256 rows of a model run at once on a large device.
template <class Task>
inline constexpr int rooms_together = Task::multiplies ? 1 : 2;

struct start_body {
  std::byte* bytes;
  state_header header;
  template <class Block>
  __device__ void operator()(Block& b) const {
    carver from(bytes);
    const state_parts parts = state_parts::take(from, header);
    b.each([&](int t) {
      if (t == 0) parts.clear(header);
    });
  }
};
template <class Task>
struct append_body {
  Task task;
  template <class Block>
  __device__ void operator()(Block& b) const {
    append_row(b, task);
  }
};
template <class Task>
struct observe_body {
  Task task;
  template <class Block>
  __device__ void operator()(Block& b) const {
    observe_row(b, task);
  }
};
template <class Task>
struct room_body {
  static constexpr int blocks_together = rooms_together<Task>;
  Task task;
  template <class Block>
  __device__ void operator()(Block& b) const {
    make_room(b, task);
  }
};

template <class Task>
struct step_body {
  static constexpr int blocks_together = rooms_together<decltype(Task::room)>;
  Task task;
  template <class Block>
  __device__ void operator()(Block& b) const {
    take_step(b, task);
  }
};

/// What a call with states is refused for.
template <class Policy, row_feed Feed, class Inputs>
[[nodiscard]] status check_call(const gpu& on, const Policy& policy, const device_states<Feed>& states,
                                const Inputs& in) {
  if (const status s = check_states(policy, states, in); !s.ok()) return s;
  if (on.longest < 1 || on.longest > most_slots)
    return {status_code::bad_shape, "longest", "kvevict::gpu::longest must say how many slots a row can have"};
  return {};
}

/// What an observation is refused for.
template <class Policy, row_feed Feed, class Inputs>
[[nodiscard]] status check_observation(const gpu& on, const Policy& policy, const device_states<Feed>& states,
                                       const Inputs& in) {
  if (const status s = check_call(on, policy, states, in); !s.ok()) return s;
  if constexpr (attention_sources<std::remove_cvref_t<decltype(policy.scorer())>> != 0) {
    const auto& rows = fed_rows<Feed>(in);
    constexpr const char* name = Feed == row_feed::attention ? "attention" : "queries";
    if (rows.entries.null()) return {status_code::bad_pointer, name, "the data of this input is null"};
    if (group_size(in) != states.layout.group_size)
      return {status_code::bad_shape, "query_heads", "the state was started for other query_heads"};
    if (Feed == row_feed::queries && rows.entries.dims() != in.cache.keys().dims())
      return {status_code::bad_shape, name, "queries need as many dims as the keys"};
    if (Feed == row_feed::queries && states.layout.window > 0 && rows.entries.dims() != states.layout.head_dim)
      return {status_code::bad_shape, "head_dim", "the state was started for another head_dim"};
  }
  return {};
}

/// What an eviction in place is refused for.
template <class Policy, row_feed Feed, class Inputs>
[[nodiscard]] status check_room(const gpu& on, const Policy& policy, const device_states<Feed>& states,
                                const Inputs& in, const span<index_t>& lengths, const eviction_pace& pace) {
  static_assert(!Inputs::template has<input_kind::ranks>,
                "kvevict: evict_in_place is one launch, in which no ranks can add up their budgets: call evict");
  if (const status s = check_call(on, policy, states, in); !s.ok()) return s;
  const cache_shape shape = in.cache.shape();
  if (lengths.data == nullptr) return {status_code::bad_pointer, "lengths", "the lengths are null"};
  if (lengths.size() != shape.rows()) return {status_code::bad_shape, "lengths", "there must be one length per row"};
  if (pace.every < 1) return {status_code::bad_option, "every", "a row is full at one slot above its budget at least"};
  const auto seen = eviction_inputs(in, states);
  if (const status s = check_on_device(on, policy, seen); !s.ok()) return s;
  const budget_pool_view pools = pools_of(seen);
  if (const status s = check_pool_count(pools, shape.rows()); !s.ok()) return s;
  if (score::layer_wide<std::remove_cvref_t<decltype(policy.scorer())>> && decltype(policy.rule())::joint &&
      pools.pool_of_row != nullptr)
    return {status_code::bad_option, "budget_pools",
            "this scorer crosses the kv_heads of a layer: they share a budget"};
  return {};
}

/// Launches a team of blocks for each unit of a room_task.
template <class Room, class Body>
[[nodiscard]] status launch_units(const gpu& on, const Room& room, offset_t shared_bytes, const Body& body) {
  const offset_t units = room.units();
  const int wanted = Room::together ? team_of(static_cast<index_t>(room.shape.rows() / units)) : 1;
  int team = 1;
  if (const status s = team_size_of<room_threads<Room>, Body>(on, wanted, team); !s.ok()) return s;
  return launch<room_threads<Room>>(on, units, shared_bytes, body, team);
}

}  // namespace detail

/// Makes the bytes, which are the device's, the state of a sequence that has seen nothing. Errors: as on the CPU, a
/// refused launch.
template <row_feed Feed, eviction_policy Policy>
[[nodiscard]] status start(const gpu& on, const Policy& policy, const sequence_extent& extent,
                           const decode_state<Feed>& state) {
  if (const status s = detail::check_start(policy, extent, state); !s.ok()) return s;
  return detail::launch<detail::warp_threads>(
      on, 1, 0, detail::start_body{state.bytes().data, detail::header_of<Feed>(policy, extent)});
}

/// Copies the slots of `added` behind those of `to`, row by row, and adds their number to `lengths`, [rows], which are
/// those of `to`: all on the device, in one launch. A row of which the layout says that it has no room for its new
/// slots gets none. Errors: null pointers, disagreeing shapes or dims, a refused launch.
template <cache_view Added, cache_view To>
[[nodiscard]] status append(const gpu& on, const Added& added, const To& to, const span<index_t>& lengths) {
  if (const status s = detail::check_append(added, to, lengths); !s.ok()) return s;
  const auto moved = detail::moved_between(added, to);
  const detail::append_task<Added, std::remove_const_t<decltype(moved)>> task{added, moved, lengths.data};
  return detail::launch<detail::append_threads>(on, to.shape().rows(), 0, detail::append_body<decltype(task)>{task});
}

/// Bytes of the device that `observe`, `evict`, `evict_in_place` and `step` need; 0 where the call will be refused.
template <eviction_policy Policy, row_feed Feed, class Inputs>
[[nodiscard]] offset_t workspace_bytes(const gpu& on, const Policy& policy, const device_states<Feed>& states,
                                       const Inputs& in) {
  if (!detail::check_call(on, policy, states, in).ok()) return 0;
  const auto seen = detail::eviction_inputs(in, states);
  carver both;
  detail::take_observation(both, policy, states, in.cache.shape().rows(), on.longest);
  detail::take_room(both, policy, seen, on.longest);
  return greatest(workspace_bytes(on, policy, seen), both.bytes());
}

/// Tells the states about new slots (cpu/decode/observe.hpp), in one launch, a block per row. What only the device
/// knows cannot be refused: that every row of a sequence has grown by the same number is taken as said, rows that are
/// missing give nothing, and slots beyond the capacity of a state or `gpu::longest` do not become known.
///
/// Sums over all rows from queries (H2O) are multiplied in fp32 by the row's block: right for steps. For a long prompt
/// hand over what the engine's attention has.
template <eviction_policy Policy, row_feed Feed, class Inputs>
[[nodiscard]] status observe(const gpu& on, const Policy& policy, const device_states<Feed>& states, const Inputs& in,
                             const workspace& memory) {
  if (const status s = detail::check_observation(on, policy, states, in); !s.ok()) return s;
  const offset_t rows = in.cache.shape().rows();
  carver place(memory.data);
  float* const logits = detail::take_observation(place, policy, states, rows, on.longest);
  if (const status s = detail::check_workspace(memory, place.bytes()); !s.ok()) return s;
  const auto task = detail::observe_task_of(policy, states, in, on.longest, logits);
  using body = detail::observe_body<std::remove_const_t<decltype(task)>>;
  return detail::launch<detail::observe_threads>(on, rows, logits != nullptr ? detail::attend_bytes : 0, body{task});
}

/// Which slots of each row stay, from the states (cpu/decode/evict.hpp): what `evict` without states launches, many
/// blocks for a row. All new slots must have been observed. Then `compact_in_place(on, cache, out, side(states))`.
template <eviction_policy Policy, row_feed Feed, class Inputs>
[[nodiscard]] status evict(const gpu& on, const Policy& policy, const device_states<Feed>& states, const Inputs& in,
                           const selection& out, const workspace& memory) {
  if (const status s = detail::check_call(on, policy, states, in); !s.ok()) return s;
  return detail::evict_rows(on, policy, detail::eviction_inputs(in, states), out, memory);
}

/// Evicts the rows that are full and compacts them in place, in one launch: scores, budgets, selection, keys, values,
/// states and `lengths`, [rows], which are those of `in.cache` and become the retained ones. The slots that stay are
/// those of `evict`. A block per row, or a cluster per set of rows that share a budget (Ada-KV) or a score (TOVA);
/// where these are not full, as `pace` says, it leaves at once and touches nothing. So does it where a row has slots
/// that its state has not seen.
///
/// `in` holds the cache and what is no row. Where it is the cache in token order (view/reordered.hpp), entries are
/// swapped with the fewest moves and the order kept up, behind the last slot, too; `append` then takes the memory
/// itself. An eviction at each step moves one entry that way, and half of the row otherwise. Queries that the states
/// remember are multiplied in fp32, or on tensor cores where they and the keys are numbers of 16 bits.
template <eviction_policy Policy, row_feed Feed, class Inputs>
[[nodiscard]] status evict_in_place(const gpu& on, const Policy& policy, const device_states<Feed>& states,
                                    const Inputs& in, const span<index_t>& lengths, const workspace& memory,
                                    const eviction_pace& pace = {}) {
  if (const status s = detail::check_room(on, policy, states, in, lengths, pace); !s.ok()) return s;
  const auto seen = detail::eviction_inputs(in, states);
  carver place(memory.data);
  const detail::room_memory m = detail::take_room(place, policy, seen, on.longest);
  if (const status s = detail::check_workspace(memory, place.bytes()); !s.ok()) return s;

  const auto task = detail::room_task_of(policy, states, in, lengths.data, pace.every, on.longest, m);
  using task_type = std::remove_const_t<decltype(task)>;
  return detail::launch_units(on, task, detail::make_room_bytes<task_type>(detail::room_threads<task_type>),
                              detail::room_body<task_type>{task});
}

/// `observe` and `evict_in_place` in one launch, the grid that of `evict_in_place`: all that a decode step asks of a
/// policy. `in` holds the cache and the rows of the new tokens. Refused for what either is refused for.
template <eviction_policy Policy, row_feed Feed, class Inputs>
[[nodiscard]] status step(const gpu& on, const Policy& policy, const device_states<Feed>& states, const Inputs& in,
                          const span<index_t>& lengths, const workspace& memory, const eviction_pace& pace = {}) {
  if (const status s = detail::check_observation(on, policy, states, in); !s.ok()) return s;
  if (const status s = detail::check_room(on, policy, states, in, lengths, pace); !s.ok()) return s;
  carver place(memory.data);
  float* const logits = detail::take_observation(place, policy, states, in.cache.shape().rows(), on.longest);
  const detail::room_memory m = detail::take_room(place, policy, detail::eviction_inputs(in, states), on.longest);
  if (const status s = detail::check_workspace(memory, place.bytes()); !s.ok()) return s;
  const auto observation = detail::observe_task_of(policy, states, in, on.longest, logits);
  const auto room = detail::room_task_of(policy, states, in, lengths.data, pace.every, on.longest, m);
  using room_type = std::remove_const_t<decltype(room)>;
  const detail::step_task<std::remove_const_t<decltype(observation)>, room_type> task{observation, room};
  return detail::launch_units(on, room, detail::step_bytes(task, detail::room_threads<room_type>),
                              detail::step_body<std::remove_const_t<decltype(task)>>{task});
}

}  // namespace kvevict
