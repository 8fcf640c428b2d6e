// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/decode/state.hpp>
#include <kvevict/view/check.hpp>
#include <limits>
#include <tuple>

/// The states of a call as parts of `inputs`, so that scoring and selection need not know that they exist.
namespace kvevict::detail {

template <row_feed Feed>
struct state_positions {
  static constexpr input_kind kind = input_kind::positions;
  decode_states<Feed> states;

  [[nodiscard]] row_positions of(const row_id& row) const { return {states[row.seq].positions(row).data, 1}; }
  [[nodiscard]] index_t seen(const cache_shape&, const row_id& row, index_t) const { return states[row.seq].seen(); }
  /// By construction they ascend.
  [[nodiscard]] static constexpr status check(const cache_shape&, const row_id&, index_t) { return {}; }
  [[nodiscard]] index_t budget_length(const row_id& row, index_t length) const {
    const index_t prompt = states[row.seq].header().prompt_length;
    return prompt > 0 ? prompt : length;
  }
  [[nodiscard]] index_t sequence(const row_id& row) const { return states[row.seq].header().sequence; }
};

template <row_feed Feed>
struct state_sums {
  static constexpr input_kind kind = input_kind::attention_sums;
  decode_states<Feed> states;

  /// Sums of one query_head of a row, [capacity].
  [[nodiscard]] float* of(const row_id& row, index_t head) const {
    const state_parts p = states[row.seq].parts();
    return p.sums + (states[row.seq].index(row) * p.header->group_size + head) * p.header->capacity;
  }
};

/// The remembered rows in the order they came, whatever the place in the ring: an entry_source whose `head` is a
/// query_head and whose `slot` is a row, 0 the oldest that is still there.
template <row_feed Feed>
struct remembered_rows {
  decode_states<Feed> states;
  struct dense {
    [[nodiscard]] static constexpr offset_t dim_stride() { return 1; }
  } layout{};
  plain_reader reader{};

  /// Of a query; attention has as many as its row had slots.
  [[nodiscard]] index_t dims() const {
    return Feed == row_feed::attention ? std::numeric_limits<index_t>::max() : states[0].header().head_dim;
  }
  [[nodiscard]] static constexpr bool null() { return false; }
  [[nodiscard]] static index_t count(const state_header& h) { return least(h.window, h.seen); }
  [[nodiscard]] float* at(const row_id& row, index_t slot, index_t dim) const {
    const state_parts p = states[row.seq].parts();
    const state_header& h = *p.header;
    return entry(p, row, (h.seen - count(h) + slot) % h.window) + dim;
  }
  /// The entry at one place of the ring.
  [[nodiscard]] static float* entry(const state_parts& p, const row_id& row, index_t place) {
    const state_header& h = *p.header;
    const offset_t heads = static_cast<offset_t>(h.kv_heads) * h.group_size;
    return p.recent +
           ((static_cast<offset_t>(place) * h.layers + row.layer) * heads + row.kv_head) * state_parts::entry_of(h);
  }
  [[nodiscard]] float operator()(const row_id& row, index_t slot, index_t dim) const { return *at(row, slot, dim); }
  void load(const row_id& row, index_t slot, float* out) const {
    const float* from = at(row, slot, 0);
    for (index_t d = 0; d < dims(); ++d) out[d] = from[d];
  }
};

template <row_feed Feed>
struct state_rows {
  static constexpr input_kind kind = Feed == row_feed::attention ? input_kind::attention : input_kind::queries;
  remembered_rows<Feed> entries;
  index_t query_heads;

  [[nodiscard]] index_t row_count(const cache_shape&, const row_id& row) const {
    return remembered_rows<Feed>::count(entries.states[row.seq].header());
  }
};

/// The parts of a tuple for which `wanted` holds.
template <class Part, class Wanted>
[[nodiscard]] auto part_if(const Part& part, const Wanted&) {
  if constexpr (Wanted{}(Part::kind))
    return std::tuple<Part>(part);
  else
    return std::tuple<>();
}
template <class Inputs, class Wanted, class... More>
[[nodiscard]] auto inputs_with(const Inputs& in, const Wanted& wanted, const More&... more) {
  return in.parts.pass_to([&](const auto&... parts) {
    return std::apply(
        [&](const auto&... kept) {
          return inputs{in.cache, kept..., more...};
        },
        std::tuple_cat(part_if(parts, wanted)...));
  });
}

/// Inputs of an observation: the caller's, with the positions of the states.
template <class Inputs, row_feed Feed>
[[nodiscard]] auto observation_inputs(const Inputs& in, const decode_states<Feed>& states) {
  constexpr auto wanted = [](input_kind kind) {
    return kind != input_kind::positions && (Feed == row_feed::attention || kind != input_kind::attention);
  };
  return inputs_with(in, wanted, state_positions<Feed>{states});
}

/// Inputs of an eviction: what the caller passed that is no row and belongs to no row, and the states.
template <class Inputs, row_feed Feed>
[[nodiscard]] auto eviction_inputs(const Inputs& in, const decode_states<Feed>& states) {
  constexpr auto wanted = [](input_kind kind) {
    return kind == input_kind::value_norms || kind == input_kind::budget_pools || kind == input_kind::ranks;
  };
  const state_header& h = states[0].header();
  return inputs_with(in, wanted, state_rows<Feed>{{states}, h.kv_heads * h.group_size}, state_positions<Feed>{states},
                     state_sums<Feed>{states});
}

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
