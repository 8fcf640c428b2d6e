// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/budget/across_ranks.hpp>
#include <kvevict/cuda/select.cuh>
#include <kvevict/policy/ranks.hpp>

/// Joint budgets over the kv_heads of several ranks, on the device (view/ranks.hpp says what they share).
namespace kvevict {

/// An all-reduce of the caller on the device: puts into the stream what adds `values`, memory of the device, element by
/// element over all ranks and leaves the sums on every rank; says whether that could be put there. It is called on the
/// host between two kernels, also inside of a capture. kvevict/nccl.cuh has one.
///
/// @code{.cu}
/// inputs in{view, rows, rank_view{first_kv_head, kv_heads, nccl_sum{communicator}}};
/// status s = evict(gpu{stream, longest}, policy, in, kept, scratch);  // on every rank
/// @endcode
///
///     rounds    5: four histograms of 256 bins and 3 numbers per (layer, sequence), then 5 numbers per head and one
///               that counts the ranks that refuse the call; none without a joint budget
///     nothing   is read by the host, and nothing waits: kernels and sums follow each other in the stream
///
/// A rank whose call is refused still takes part, with zeros, and returns why. The others cannot hear of it on the
/// host: they keep every row whole, so that no rank has lost what another still has. `out.slots` must therefore have
/// room for all slots. What a rank cannot do without it cannot take part without: extents, a place among the heads, and
/// a workspace that holds the sums (it comes first in the workspace). Then, and where a launch or an all-reduce fails,
/// the call returns the error, its selection is not written, and the others wait for it as in any collective.
template <class S>
concept stream_sum = requires(const S& sum, cudaStream_t stream, const span<std::int64_t>& values) {
  { sum(stream, values) } -> std::convertible_to<bool>;
};

namespace detail {

/// Threads of the blocks of these kernels: those of the last two do little beside waiting for memory.
inline constexpr int count_threads = 512, report_threads = 128, split_threads = 128;

template <class Rule>
struct count_body {
  select_task<Rule> task;
  rank_memory memory;
  int round;
  template <class Block>
  __device__ void operator()(Block& b) const {
    count_for_ranks(b, task, memory, round);
  }
};

template <class Rule>
struct report_body {
  select_task<Rule> task;
  rank_place place;
  rank_memory memory;
  template <class Block>
  __device__ void operator()(Block& b) const {
    report_heads(b, task, place, memory);
  }
};

template <class Rule>
struct split_body {
  select_task<Rule> task;
  rank_place place;
  rank_memory memory;
  template <class Block>
  __device__ void operator()(Block& b) const {
    split_for_ranks(b, task, place, memory);
  }
};

/// Puts one sum into the stream.
template <class Sum>
[[nodiscard]] status add_up(const gpu& on, const rank_view<Sum>& ranks, const span<std::int64_t>& values) {
  static_assert(stream_sum<Sum>, "kvevict: on the device ranks need a sum(stream, values), for instance nccl_sum");
  if (ranks.sum(on.stream, values)) return {};
  return {status_code::device_error, "ranks", "an all-reduce could not be put into the stream"};
}

/// Puts budgets that ranks share, and the selection, into the stream; everything has been checked.
template <class Rule, class Sum>
[[nodiscard]] status launch_across(const gpu& on, select_task<Rule> task, const rank_view<Sum>& ranks,
                                   const rank_memory& memory) {
  const rank_place place{ranks.first_kv_head, ranks.kv_heads};
  const offset_t pools = rank_memory::pools_of(task.shape);
  int team = 1;
  if (const status s = team_size_of<count_threads, count_body<Rule>>(on, team_of(task.shape.kv_heads), team); !s.ok())
    return s;
  for (int round = 0; round <= digit_rounds; ++round) {
    const count_body<Rule> count{task, memory, round};
    const report_body<Rule> report{task, place, memory};
    status s = round < digit_rounds ? launch<count_threads>(on, pools, rank_kernel_bytes, count, team)
                                    : launch<report_threads>(on, pools, rank_kernel_bytes, report);
    if (s.ok()) s = add_up(on, ranks, memory.summed(task.shape, ranks.kv_heads, round));
    if (!s.ok()) return s;
  }
  if (const status s = launch<split_threads>(on, pools, rank_kernel_bytes, split_body<Rule>{task, place, memory});
      !s.ok())
    return s;
  task.budgets = memory.budgets;
  return launch_rows(on, task);
}

/// What a rank does whose call is refused: it adds nothing, but that it refuses. Returns `mine`.
template <class Sum>
[[nodiscard]] status refuse_across(const gpu& on, const rank_view<Sum>& ranks, const cache_shape& shape,
                                   const workspace& memory, const status& mine) {
  carver count, place(memory.data);
  if (!check(shape).ok() || !check_place(ranks, shape).ok()) return mine;
  rank_memory::take(count, shape, ranks.kv_heads);
  if (!check_workspace(memory, count.bytes()).ok()) return mine;
  const rank_memory m = rank_memory::take(place, shape, ranks.kv_heads);
  for (int round = 0; round <= digit_rounds; ++round) {
    const span<std::int64_t> values = m.summed(shape, ranks.kv_heads, round);
    if (cudaMemsetAsync(values.data, 0, static_cast<std::size_t>(values.size()) * sizeof(*values.data), on.stream))
      return mine;
    // The lowest byte of the last number counts the ranks that refuse.
    if (round == digit_rounds && cudaMemsetAsync(values.end() - 1, 1, 1, on.stream)) return mine;
    if (!add_up(on, ranks, values).ok()) return mine;
  }
  return mine;
}

}  // namespace detail

}  // namespace kvevict
