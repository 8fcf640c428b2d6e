// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/decode/state.hpp>
#include <limits>
#include <tuple>

/// The states of a call as parts of `inputs`, so that scoring and selection need not know that they exist. `States` are
/// a backend's: states[seq] has `header()`, the extents, `parts()`, the memory, and `index(row)`.
namespace kvevict::detail {

template <class States>
struct state_positions {
  static constexpr input_kind kind = input_kind::positions;
  States states;

  [[nodiscard]] KVEVICT_HOST_DEVICE row_positions of(const row_id& row) const {
    const auto& state = states[row.seq];
    return {state.parts().positions + state.index(row) * state.header().capacity, 1};
  }
  [[nodiscard]] KVEVICT_HOST_DEVICE index_t seen(const cache_shape&, const row_id& row, index_t) const {
    const auto& state = states[row.seq];
    return state.parts().seen[state.index(row)];
  }
  /// By construction they ascend.
  [[nodiscard]] static constexpr status check(const cache_shape&, const row_id&, index_t) { return {}; }
  [[nodiscard]] KVEVICT_HOST_DEVICE index_t budget_length(const row_id& row, index_t length) const {
    const index_t prompt = states[row.seq].parts().header->prompt_length;
    return prompt > 0 ? prompt : length;
  }
  [[nodiscard]] KVEVICT_HOST_DEVICE index_t sequence(const row_id& row) const {
    return states[row.seq].parts().header->sequence;
  }
};

template <class States>
struct state_sums {
  static constexpr input_kind kind = input_kind::attention_sums;
  States states;

  /// Sums of one query_head of a row, [capacity].
  [[nodiscard]] KVEVICT_HOST_DEVICE float* of(const row_id& row, index_t head) const {
    const auto& state = states[row.seq];
    const state_header& h = state.header();
    return state.parts().sums + (state.index(row) * h.group_size + head) * h.capacity;
  }
};

/// The remembered rows in the order they came, whatever the place in the ring: an entry_source whose `head` is a
/// query_head and whose `slot` is a row, 0 the oldest that is still there.
template <class States>
struct remembered_rows {
  States states;
  struct dense {
    [[nodiscard]] KVEVICT_HOST_DEVICE static constexpr offset_t dim_stride() { return 1; }
  } layout{};
  plain_reader reader{};

  static constexpr index_t any_slots = std::numeric_limits<index_t>::max();
  /// Of a query; attention has as many as its row had slots.
  [[nodiscard]] KVEVICT_HOST_DEVICE index_t dims() const {
    return States::feed == row_feed::attention ? any_slots : states[0].header().head_dim;
  }
  [[nodiscard]] static constexpr bool null() { return false; }
  /// How many there are, for a row of the cache.
  [[nodiscard]] KVEVICT_HOST_DEVICE index_t count(const row_id& row) const {
    const auto& state = states[row.seq];
    return least(state.header().window, state.parts().seen[state.index(row)]);
  }
  [[nodiscard]] KVEVICT_HOST_DEVICE float* at(const row_id& head, index_t slot, index_t dim) const {
    const auto& state = states[head.seq];
    const state_header& h = state.header();
    row_id row = head;
    row.kv_head = head.kv_head / h.group_size;
    const state_parts p = state.parts();
    const index_t seen = p.seen[state.index(row)];
    return entry(p, h, head, (seen - least(h.window, seen) + slot) % h.window) + dim;
  }
  /// The entry at one place of the ring.
  [[nodiscard]] KVEVICT_HOST_DEVICE static float* entry(const state_parts& p, const state_header& h, const row_id& head,
                                                        index_t place) {
    const offset_t heads = static_cast<offset_t>(h.kv_heads) * h.group_size;
    return p.recent +
           ((static_cast<offset_t>(place) * h.layers + head.layer) * heads + head.kv_head) * state_parts::entry_of(h);
  }
  [[nodiscard]] KVEVICT_HOST_DEVICE float operator()(const row_id& head, index_t slot, index_t dim) const {
    return *at(head, slot, dim);
  }
  KVEVICT_HOST_DEVICE void load(const row_id& head, index_t slot, float* out) const {
    const float* from = at(head, slot, 0);
    for (index_t d = 0; d < dims(); ++d) out[d] = from[d];
  }
};

template <class States>
struct state_rows {
  static constexpr input_kind kind = States::feed == row_feed::attention ? input_kind::attention : input_kind::queries;
  remembered_rows<States> entries;
  index_t query_heads = 0;
  row_lengths rows;  ///< at most

  [[nodiscard]] KVEVICT_HOST_DEVICE index_t row_count(const cache_shape&, const row_id& row) const {
    return entries.count(row);
  }
};

/// Where the rows of a call come from.
template <row_feed Feed, class Inputs>
[[nodiscard]] const auto& fed_rows(const Inputs& in) {
  if constexpr (Feed == row_feed::attention)
    return in.template get<input_kind::attention>();
  else
    return in.template get<input_kind::queries>();
}

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
template <class Inputs, class States>
[[nodiscard]] auto observation_inputs(const Inputs& in, const States& states) {
  constexpr auto wanted = [](input_kind kind) {
    return kind != input_kind::positions && (States::feed == row_feed::attention || kind != input_kind::attention);
  };
  return inputs_with(in, wanted, state_positions<States>{states});
}

/// Inputs of an eviction: what the caller passed that is no row and belongs to no row, and the states.
template <class Inputs, class States>
[[nodiscard]] auto eviction_inputs(const Inputs& in, const States& states) {
  constexpr auto wanted = [](input_kind kind) {
    return kind == input_kind::value_norms || kind == input_kind::budget_pools || kind == input_kind::ranks;
  };
  const state_header& h = states[0].header();
  return inputs_with(in, wanted, state_rows<States>{{states}, h.kv_heads * h.group_size, h.window},
                     state_positions<States>{states}, state_sums<States>{states});
}

}  // namespace kvevict::detail
