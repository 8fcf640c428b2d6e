// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/decode/evict.hpp>
#include <kvevict/cuda/decode/observe.hpp>
#include <kvevict/cuda/detail/bounded.hpp>

/// What the host makes of a call with states: the memory that its kernel needs, and what the kernel works on.
namespace kvevict::detail {

/// Logits of a call, where the block of a row multiplies its queries.
[[nodiscard]] constexpr float* take_logits(carver& from, offset_t rows, index_t longest) {
  return from.take<float>(rows * rows_at_once * longest);
}

/// Logits of an observation; null where it multiplies no queries.
template <class Policy, row_feed Feed>
float* take_observation(carver& from, const Policy&, const device_states<Feed>& states, offset_t rows,
                        index_t longest) {
  if (Feed == row_feed::attention || states.layout.sums == 0) return nullptr;
  return take_logits(from, rows, longest);
}

template <class Policy, row_feed Feed, class Inputs>
[[nodiscard]] auto observe_task_of(const Policy& policy, const device_states<Feed>& states, const Inputs& in,
                                   index_t longest, float* logits) {
  const auto source = attention_of(policy.scorer());
  const auto rule = policy.rule();
  const auto seen = observation_inputs(in, states);
  return observe_task<std::remove_const_t<decltype(source)>, std::remove_const_t<decltype(rule)>,
                      std::remove_const_t<decltype(seen)>, Feed>{source,  rule,  policy.protection(), seen, states,
                                                                 longest, logits};
}

/// `in` are the inputs of an eviction.
template <class Policy, class Inputs>
room_memory take_room(carver& from, const Policy& policy, const Inputs& in, index_t longest) {
  const offset_t rows = in.cache.shape().rows();
  const auto scorer = policy.scorer();
  const program_extent extent = extent_on_device(in, longest);
  room_memory m{};
  m.scores = from.take<float>(rows * longest);
  m.slots = from.take<index_t>(rows * longest);
  if constexpr (attention_sources<std::remove_const_t<decltype(scorer)>> != 0) {
    const auto source = attention_of(scorer);
    m.columns = from.take<float>(rows * extent.group_size * longest);
    if constexpr (!attention_is_given<std::remove_const_t<decltype(source)>, Inputs>)
      if (!sums_are_given(source, in)) m.logits = take_logits(from, rows, longest);
  }
  m.scratch = from.take<std::byte>(rows * program_scratch_bytes(scorer, extent));
  if constexpr (decltype(policy.rule())::joint) m.share = share_memory::take(from, rows);
  return m;
}

/// `in` are the caller's.
template <class Policy, row_feed Feed, class Inputs>
[[nodiscard]] auto room_task_of(const Policy& policy, const device_states<Feed>& states, const Inputs& in,
                                index_t* lengths, index_t every, index_t longest, const room_memory& memory) {
  const auto seen = bounded(eviction_inputs(in, states), longest);
  program_extent extent = extent_on_device(seen, longest);
  extent.columns = memory.columns;
  auto scores = score_task_of(policy, seen, float_rows{memory.scores, longest}, extent);
  scores.scratch = memory.scratch;
  const auto source = attention_of(policy.scorer());
  const auto moved = moved_within(in.cache, 1);
  return room_task<decltype(scores), std::remove_const_t<decltype(source)>, std::remove_const_t<decltype(moved)>, Feed>{
      scores, source, scores.rule, states, moved, pools_of(seen), in.cache.shape(), memory, lengths, every, longest};
}

}  // namespace kvevict::detail
