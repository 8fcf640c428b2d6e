// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cpu/decode/parts.hpp>
#include <kvevict/cpu/detail/pieces.hpp>
#include <kvevict/cpu/evict.hpp>

namespace kvevict {
namespace detail {

/// Rows that a source wants of `added` new ones.
[[nodiscard]] constexpr index_t rows_wanted(index_t window, index_t added) { return least(window, added); }

/// What is wrong with the rows that are passed for new slots and that a source of attention reads.
template <row_feed Feed, class Source, class Inputs>
[[nodiscard]] status check_new_rows(const Source& source, const Inputs& in, const state_header& h,
                                    const score::row_context& context) {
  const auto& rows = fed_rows<Feed>(in);  // where they are missing, this says what to pass
  if (group_size(in) != h.group_size)
    return {status_code::bad_shape, "query_heads", "the state was started for other query_heads"};
  if (Feed == row_feed::queries && h.window > 0 && rows.entries.dims() != h.head_dim)
    return {status_code::bad_shape, "head_dim", "the state was started for another head_dim"};
  return source_kernel<Source>::check(source, in, context);
}

/// What is wrong with the new slots of a row or with the rows passed for them. `p`: the parts of its state.
template <row_feed Feed, class Policy, class Inputs>
[[nodiscard]] status check_new_slots(const Policy& policy, const state_parts& p, offset_t index, const Inputs& in,
                                     const row_id& row, index_t added) {
  const index_t length = in.cache.length(row);
  const state_header& h = *p.header;
  if (length - p.lengths[index] != added || added < 1)
    return {status_code::bad_shape, "length",
            "every row of a sequence must have grown by the same number of slots, at least one, since the last call"};
  if (length > h.capacity)
    return {status_code::small_output, "states", "a row is longer than the capacity of its state", length};
  if (h.seen > std::numeric_limits<index_t>::max() - added)
    return {status_code::bad_shape, "length", "a sequence has fewer than 2^31 tokens"};
  status result{};
  score::each_source(policy.scorer(), [&](auto source) {
    if constexpr (requires { source.reads_rows; }) {
      if (!result.ok()) return;
      source.window = rows_wanted(source.window, added);
      const score::row_context context{.row = row, .length = length, .seen = length, .group_size = h.group_size};
      result = check_new_rows<Feed>(source, in, h, context);
    }
  });
  return result;
}

/// Takes the last `count` rows of a call into the ring, for the query_heads of one row.
template <row_feed Feed, class Inputs>
void remember_rows(const state_parts& p, const Inputs& in, const row_id& row, index_t count) {
  const state_header& h = *p.header;
  const auto& from = fed_rows<Feed>(in);
  const index_t rows = from.row_count(in.cache.shape(), row), length = in.cache.length(row);
  row_id head = row;
  for (index_t k = 0; k < count; ++k)
    for (index_t q = 0; q < h.group_size; ++q) {
      head.kv_head = row.kv_head * h.group_size + q;
      float* to = remembered_rows<decode_states<Feed>>::entry(p, h, head, (h.seen - count + k) % h.window);
      if constexpr (Feed == row_feed::attention) {
        const index_t visible = length - (count - 1 - k);
        for (index_t j = 0; j < visible; ++j) to[j] = from.entries(head, rows - count + k, j);
      } else {
        from.entries.load(head, rows - count + k, to);
      }
    }
}

/// Adds the new rows of one row's query_heads to `sums`, [group_size][capacity].
template <class Source, class Inputs>
void add_to_sums(const Source& source, float* sums, offset_t capacity, const Inputs& in, const score::row_context& row,
                 const scratch_extent& extent, index_t added, carver scratch) {
  const auto decay = static_cast<float>(source.weight(added) / source.weight(0));
  for (index_t h = 0; h < row.group_size; ++h) {
    float* head = sums + h * capacity;
    if (decay != 1.0F) array(head, row.length - added) *= decay;
    for (index_t j = row.length - added; j < row.length; ++j) head[j] = 0.0F;
  }
  source_kernel<Source>::accumulate(source, in, row, extent, added, sums, capacity, scratch);
}

}  // namespace detail

/// Tells the states about new slots: appended to the cache since the last call, the same number in every row of a
/// sequence. `in` holds the cache as it is now and, where the policy reads attention, the rows of the new tokens: as
/// queries, or, for a `decode_state<row_feed::attention>`, as attention probabilities over the cached slots. A policy
/// with a window needs only the last `window` of them. A prompt may come in pieces of any size. Positions are the
/// states' own: those among the inputs are not read.
///
/// Reads the cache only where a policy accumulates all rows from queries. Changes only the states and the workspace.
template <class Executor, eviction_policy Policy, class States, class Inputs>
status observe(const cpu<Executor>& on, const Policy& policy, const States& of, const Inputs& in,
               const workspace& memory) {
  const auto states = states_of(of);
  constexpr row_feed feed = decltype(states)::feed;
  if (const status s = check(policy); !s.ok()) return s;
  if (const status s = check_inputs(in); !s.ok()) return s;
  if (const status s = detail::check_states(policy, states, in); !s.ok()) return s;
  const cache_shape shape = in.cache.shape();
  const auto rows = static_cast<index_t>(shape.rows());
  // A sequence has grown by what its first row has; the others are compared with it.
  const auto added_to = [&](index_t seq, const detail::state_parts& p) {
    return in.cache.length({0, seq, 0, seq * shape.kv_heads}) - p.lengths[0];
  };
  for (index_t seq = 0; seq < shape.seqs; ++seq) {
    const detail::state_parts p = states[seq].parts();  // found once: a step of few slots takes hardly longer than that
    const index_t added = added_to(seq, p);
    for (index_t layer = 0; layer < shape.layers; ++layer)
      for (index_t head = 0; head < shape.kv_heads; ++head) {
        const row_id row{layer, seq, head, (layer * shape.seqs + seq) * shape.kv_heads + head};
        const status s = detail::check_new_slots<feed>(policy, p, states[seq].index(row), in, row, added);
        if (!s.ok()) return s;
      }
  }
  carver place(memory.data);
  const auto extent = detail::extent_of(in, detail::longest_row(in));
  const auto scorer = policy.scorer();
  const auto scratch = detail::score_memory::take(place, scorer, extent, on.how.workers());
  index_t* added = place.take<index_t>(shape.seqs);
  if (const status s = detail::check_workspace(memory, place.bytes()); !s.ok()) return s;

  for (index_t i = 0; i < shape.seqs; ++i) {
    const detail::state_parts p = states[i].parts();
    added[i] = added_to(i, p);
    for (offset_t r = 0; r < static_cast<offset_t>(shape.layers) * shape.kv_heads; ++r) {
      for (index_t k = 0; k < added[i]; ++k) p.positions[r * p.header->capacity + p.lengths[r]++] = p.header->seen + k;
      p.seen[r] = p.header->seen + added[i];
    }
    p.header->seen += added[i];
  }
  const auto with_positions = detail::observation_inputs(in, states);
  const auto observe_row = [&](index_t r, index_t worker) {
    const row_id row = shape.row(r);
    const auto& state = states[row.seq];
    const detail::state_parts p = state.parts();
    const detail::state_header& h = *p.header;
    score::each_source(scorer, [&](const auto& source) {
      if constexpr (requires { source.reads_rows; }) {
        if (source.window != score::all_rows) return;
        score::row_context context{
            .row = row, .length = in.cache.length(row), .seen = h.seen, .group_size = h.group_size};
        if constexpr (feed == row_feed::queries)  // a gain goes by the budget
          context.budget = detail::plan_row(policy, with_positions, row).nominal;
        const offset_t capacity = h.capacity;
        detail::add_to_sums(source, p.sums + state.index(row) * h.group_size * capacity, capacity, with_positions,
                            context, extent, added[row.seq], carver(scratch.scratch + worker * scratch.scratch_bytes));
      }
    });
    if constexpr (Inputs::template has < feed == row_feed::queries ? input_kind::queries : input_kind::attention >)
      if (h.window > 0) detail::remember_rows<feed>(p, in, row, detail::rows_wanted(h.window, added[row.seq]));
  };
  const auto length_of = [&](index_t r) { return in.cache.length(shape.row(r)); };
  if constexpr (feed == row_feed::attention)  // each row takes as long as reading it
    detail::run_in_pieces(on.how, rows, length_of, observe_row);
  else
    on.how.run(rows, observe_row);
  return {};
}

}  // namespace kvevict
