// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/budget/adaptive.hpp>
#include <kvevict/budget/pyramid.hpp>
#include <kvevict/core/workspace.hpp>
#include <kvevict/cuda/detail/launch.cuh>
#include <kvevict/cuda/select/pool.hpp>
#include <kvevict/policy/policy.hpp>
#include <kvevict/view/check.hpp>
#include <kvevict/view/row_scores.hpp>

/// Selection on the device: the slots that the CPU selects by the same scores, bit for bit, in one launch; in two where
/// cuda/select/pool.hpp says why.
namespace kvevict {

namespace detail {

/// Threads of a block that selects a row, of which a multiprocessor runs two side by side: while one waits for its
/// threads, the other counts. More threads would have too few registers.
inline constexpr int select_threads = 384, select_together = 2;
/// Of a block that shares a budget with others. Teams of eight need eight places on neighbouring multiprocessors: with
/// two per multiprocessor, an H200 runs 30 teams at once, and the 32 layers of a model would take turns.
inline constexpr int pool_together = 3;
template <class Rule>
inline constexpr int pool_threads = 288;
/// A row's budget is computed in double there, which takes registers.
template <>
inline constexpr int pool_threads<budget::adaptive<budget::pyramid>> = 192;

/// Room for keys, by fours, in what `bytes` of other memory leave of a block's part of the multiprocessor.
[[nodiscard]] inline status room_for_keys(const gpu& on, offset_t bytes, int together, index_t& fours) {
  const stream_device device(on.stream);
  int all = 0, reserved = 0;
  status s = device.found();
  if (s.ok()) s = device.attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor, all);
  if (s.ok()) s = device.attribute(cudaDevAttrReservedSharedMemoryPerBlock, reserved);
  constexpr offset_t four = sizeof(four_keys);
  fours = static_cast<index_t>(greatest<offset_t>(0, all / together - reserved - bytes) / four);
  return s;
}

template <class Rule>
struct select_body {
  static constexpr int blocks_together = select_together;
  select_task<Rule> task;
  template <class Block>
  __device__ void operator()(Block& b) const {
    select_row(b, task);
  }
};

template <class Rule>
struct pool_body {
  static constexpr int blocks_together = pool_together;
  select_task<Rule> task;
  share_memory memory;
  bool alone;
  template <class Block>
  __device__ void operator()(Block& b) const {
    select_pool(b, task, memory, alone);
  }
};

/// The largest cluster that every device with clusters has, but no more blocks than a pool has rows.
[[nodiscard]] constexpr int team_of(index_t rows_of_pool) {
  int team = 1;
  while (team < 8 && team * 2 <= rows_of_pool) team *= 2;
  return team;
}

/// The task of a policy, made on the host: members of a policy are not device functions.
template <class Policy>
[[nodiscard]] auto select_task_of(const Policy& policy, const row_scores& in, const selection& out) {
  select_task<decltype(policy.rule())> task{
      .rule = policy.rule(), .protection = policy.protection(), .shape = in.shape};
  task.scores = in.scores.data;
  task.score_offsets = in.scores.offsets;
  task.pools = in.pools;
  task.slots = out.slots.data;
  task.slots_room = out.slots.size();
  task.offsets = out.offsets.data;
  task.receipts = out.receipts.empty() ? nullptr : out.receipts.data;
  task.entry_bytes = in.entry_bytes;
  return task;
}

/// Puts the selection by known budgets into the stream.
template <class Rule>
[[nodiscard]] status launch_rows(const gpu& on, select_task<Rule> task) {
  constexpr offset_t bytes = selection_memory_bytes + key_list_bytes;
  if (const status s = room_for_keys(on, bytes, select_together, task.key_fours); !s.ok()) return s;
  return launch<select_threads>(on, task.shape.rows(), bytes + key_bytes(task.key_fours), select_body<Rule>{task});
}

/// Puts budgets and selection into the stream; everything has been checked.
template <class Rule>
[[nodiscard]] status launch_select(const gpu& on, select_task<Rule> task, const share_memory& memory) {
  if constexpr (Rule::joint) {
    task.reached = memory.reached;
    const offset_t rows = task.shape.rows();
    const bool own = task.pools.pool_of_row != nullptr;
    const offset_t pools = own ? task.pools.pools : static_cast<offset_t>(task.shape.layers) * task.shape.seqs;
    const int wanted = team_of(own ? static_cast<index_t>(rows / pools) : task.shape.kv_heads);
    int team = 1;
    if (const status s = team_size_of<pool_threads<Rule>, pool_body<Rule>>(on, wanted, team); !s.ok()) return s;
    const bool alone = own || team < wanted;
    constexpr offset_t bytes = selection_memory_bytes + key_list_bytes + share_pool_bytes;
    if (const status s = room_for_keys(on, bytes, pool_together, task.key_fours); !s.ok()) return s;
    const status s = launch<pool_threads<Rule>>(on, pools, bytes + key_bytes(task.key_fours),
                                                pool_body<Rule>{task, memory, alone}, team);
    if (!s.ok() || !alone) return s;
    task.budgets = memory.budgets;
    task.limits = memory.limits;
  }
  return launch_rows(on, task);
}

}  // namespace detail

/// Bytes of the device that `select` needs: none where rows do not share a budget.
template <eviction_policy Policy>
[[nodiscard]] offset_t workspace_bytes(const gpu&, const Policy& policy, const row_scores& in) {
  carver count;
  if constexpr (decltype(policy.rule())::joint) detail::share_memory::take(count, in.shape.rows());
  return count.bytes();
}

/// Selects by scores that are given (select/selection.hpp). The host cannot know the lengths: give `out.slots` room for
/// rows x budget slots, or for all where rows may be kept whole; what does not fit is not written.
template <eviction_policy Policy>
[[nodiscard]] status select(const gpu& on, const Policy& policy, const row_scores& in, const selection& out,
                            const workspace& memory) {
  if (const status s = check(policy); !s.ok()) return s;
  if (const status s = check(in.shape); !s.ok()) return s;
  const offset_t rows = in.shape.rows();
  if (in.scores.data == nullptr || in.scores.offsets == nullptr)
    return {status_code::bad_pointer, "scores", "the scores or their offsets are null"};
  if (in.scores.rows != rows) return {status_code::bad_shape, "scores", "the scores need one row per cache row"};
  if (const status s = detail::check_pool_count(in.pools, rows); !s.ok()) return s;
  if (const status s = detail::check_selection(out, rows, 0); !s.ok()) return s;
  if (const status s = detail::check_workspace(memory, workspace_bytes(on, policy, in)); !s.ok()) return s;
  detail::share_memory shared{};
  if constexpr (decltype(policy.rule())::joint) {
    carver place(memory.data);
    shared = detail::share_memory::take(place, rows);
  }
  return detail::launch_select(on, detail::select_task_of(policy, in, out), shared);
}

}  // namespace kvevict
