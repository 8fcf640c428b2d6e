// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/decode/evict.hpp>
#include <kvevict/cuda/decode/observe.hpp>
#include <kvevict/cuda/detail/bounded.hpp>

/// What the host makes of a call with states: the memory that its kernel needs, and what the kernel works on.
namespace kvevict::detail {

/// Logits of an observation, [rows][rows_at_once][longest]; null where it multiplies no queries.
template <class Policy, row_feed Feed>
float* take_observation(carver& from, const Policy&, const device_states<Feed>& states, offset_t rows,
                        index_t longest) {
  if (Feed == row_feed::attention || states.layout.sums == 0) return nullptr;
  return from.take<float>(rows * rows_at_once * longest);
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

/// Whether a cache is seen in token order; then its order, and the memory itself.
template <class Cache>
inline constexpr bool in_order = requires(const Cache& c) {
  c.keys().layout.order;
};
template <class Cache>
[[nodiscard]] constexpr auto order_of(const Cache& of) {
  if constexpr (in_order<Cache>)
    return of.keys().layout.order;
  else
    return not_given{};
}
template <class Cache>
[[nodiscard]] constexpr auto in_memory(const Cache& of) {
  if constexpr (in_order<Cache>) {
    const auto plain = [](const auto& e) { return entries{e.data, e.layout.base, e.dim_count, e.reader}; };
    return cache{of.extents, of.lengths, plain(of.key_entries), plain(of.value_entries)};
  } else {
    return of;
  }
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
  if constexpr (in_order<decltype(in.cache)>) {
    m.sources = from.take<index_t>(rows * longest);
    m.holes = from.take<index_t>(rows * longest);
  }
  if constexpr (attention_sources<std::remove_const_t<decltype(scorer)>> != 0) {
    const auto source = attention_of(scorer);
    m.columns = take_columns<std::remove_const_t<decltype(scorer)>>(from, rows, extent, m.scores);
    if constexpr (!attention_is_given<std::remove_const_t<decltype(source)>, Inputs>)
      if (!sums_are_given(source, in)) {
        const index_t window = least(source.window, in.template get<input_kind::queries>().rows.all);
        m.parts = softmax_parts::take(from, rows, 1, softmax_parts::columns_of(extent.group_size, window));
      }
  }
  m.numbers = take_slot_numbers(from, scorer, in, rows, extent);
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
  extent.numbers = memory.numbers;
  auto scores = score_task_of(policy, seen, float_rows{memory.scores, longest}, extent);
  scores.scratch = memory.scratch;
  const auto source = attention_of(policy.scorer());
  const auto moved = moved_within(in_memory(in.cache), 1);
  const auto order = order_of(in.cache);
  return room_task<decltype(scores), std::remove_const_t<decltype(source)>, std::remove_const_t<decltype(moved)>,
                   std::remove_const_t<decltype(order)>, Feed>{scores, source,  scores.rule,    states,
                                                               moved,  order,   pools_of(seen), in.cache.shape(),
                                                               memory, lengths, every,          longest};
}

}  // namespace kvevict::detail
