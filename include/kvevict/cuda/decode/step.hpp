// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/decode/evict.hpp>
#include <kvevict/cuda/decode/observe.hpp>

/// Observation, and the eviction of what is full then, in one kernel. One source for the device and for tests
/// (detail/block.hpp).
namespace kvevict::detail {

/// What the kernel works on: an observe_task and a room_task of the same rows.
template <class Observe, class Room>
struct step_task {
  Observe observe;
  Room room;
};

/// Shared memory of `take_step` in bytes, by the threads of a block.
template <class Task>
[[nodiscard]] constexpr offset_t step_bytes(const Task& task, int threads) {
  const offset_t room = make_room_bytes<decltype(Task::room)>(threads);
  return task.observe.logits != nullptr ? greatest(room, attend_bytes) : room;
}

/// The kernel: a block observes the rows that it may then make room in.
template <class Block, class Task>
KVEVICT_HOST_DEVICE void take_step(Block& b, const Task& task) {
  const pool_rows_on_device unit = unit_rows(b, task.room);
  KVEVICT_ROLLED for (index_t i = b.team_rank(); i < unit.count; i += b.team_size()) {
    b.reuse_shared();
    observe_row(b, task.observe, task.room.shape.row(unit.row(i)));
  }
  if constexpr (decltype(Task::room)::together) b.team_sync();
  b.reuse_shared();
  make_room(b, task.room);
}

}  // namespace kvevict::detail
