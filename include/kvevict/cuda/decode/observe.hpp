// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/decode/attend.hpp>
#include <kvevict/cuda/decode/states.hpp>
#include <kvevict/cuda/score/given.hpp>

/// New slots become known to a state, a block per row. One source for the device and for tests (detail/block.hpp).
namespace kvevict::detail {

/// What the kernel works on. `Source` is the score::attention of the scorer, or not_given. All memory is the device's.
template <class Source, class Rule, class Inputs, row_feed Feed>
struct observe_task {
  Source source;
  Rule rule;
  protect protection;
  Inputs in;  ///< the caller's, with the positions of the states
  device_states<Feed> states;
  index_t longest = 0;
  float* logits = nullptr;  ///< [rows][rows_at_once][longest], where queries are multiplied
};

/// The new slots of a row.
struct new_slots {
  row_id row;
  index_t length = 0;  ///< of the row, with them
  index_t added = 0;
  index_t seen = 0;   ///< tokens before them
  index_t given = 0;  ///< rows that were passed
  index_t rows = 0;   ///< of them, those of new tokens: the last ones
};

/// The last rows into the ring.
template <class Block, row_feed Feed, class Given>
KVEVICT_HOST_DEVICE void remember_rows(Block& b, const device_states<Feed>& states, const new_slots& n,
                                       const Given& given) {
  const auto state = states[n.row.seq];
  const state_header& h = state.header();
  const state_parts p = state.parts();
  const index_t count = least(h.window, n.rows), token = n.seen + n.added - count;
  KVEVICT_ROLLED for (index_t k = 0; k < count; ++k) {
    // Of attention, what the row saw; nothing later reads more.
    const index_t dims = Feed == row_feed::attention
                             ? least(n.length - (count - 1 - k), static_cast<index_t>(given.entries.dims()))
                             : h.head_dim;
    KVEVICT_ROLLED for (index_t q = 0; q < h.group_size; ++q) {
      row_id head = n.row;
      head.kv_head = n.row.kv_head * h.group_size + q;
      float* const to = remembered_rows<device_states<Feed>>::entry(p, h, head, (token + k) % h.window);
      b.each([&](int t) {
        KVEVICT_ROLLED for (index_t d = t; d < dims; d += b.threads())
            b.store(t, to + d, given.entries(head, n.given - count + k, d));
      });
    }
  }
}

/// What the new rows gave to the slots is added to the sums.
template <class Block, class Task, class Given>
KVEVICT_HOST_DEVICE void add_to_sums(Block& b, const Task& task, const new_slots& n, const Given& given) {
  const auto state = task.states[n.row.seq];
  const state_header& h = state.header();
  const offset_t capacity = h.capacity;
  const lasting_floats<Block> sums{b, state.parts().sums + state.index(n.row) * h.group_size * capacity};
  const auto decay = static_cast<float>(task.source.weight(n.added) / task.source.weight(0));
  const auto start = [&](int t, index_t q, index_t j) {
    if (j >= n.length - n.added) return 0.0F;
    const float sum = sums.load(t, q * capacity + j);
    return decay != 1.0F ? sum * decay : sum;
  };
  if constexpr (Given::kind == input_kind::attention) {
    constexpr int sums_at_once = 5, heads_at_once = 2;  // they wait for the memory together
    const auto dims = static_cast<index_t>(given.entries.dims());
    b.each([&](int t) {
      KVEVICT_ROLLED for (index_t first = 0; first < h.group_size; first += heads_at_once) {
        index_t q[heads_at_once];  // the last one again instead of none
        KVEVICT_UNROLLED for (int l = 0; l < heads_at_once; ++l) q[l] = least(first + l, h.group_size - 1);
        KVEVICT_ROLLED for (offset_t from = t; from < n.length; from += sums_at_once * b.threads()) {
          index_t slot[sums_at_once];
          float sum[heads_at_once][sums_at_once], received[heads_at_once][sums_at_once];
          KVEVICT_UNROLLED for (int k = 0; k < sums_at_once; ++k) {
            const offset_t next = from + k * b.threads();
            slot[k] = static_cast<index_t>(next < n.length ? next : from);
            KVEVICT_UNROLLED for (int l = 0; l < heads_at_once; ++l) sum[l][k] = start(t, q[l], slot[k]);
          }
          KVEVICT_ROLLED for (index_t i = 0; i < n.rows && dims > 0; ++i) {
            const auto weight = static_cast<float>(task.source.weight(n.rows - 1 - i));
            KVEVICT_UNROLLED for (int l = 0; l < heads_at_once; ++l) {
              row_id head = n.row;
              head.kv_head = n.row.kv_head * h.group_size + q[l];
              KVEVICT_UNROLLED for (int k = 0; k < sums_at_once; ++k) {
                received[l][k] = given.entries(head, n.given - n.rows + i, least(slot[k], dims - 1));
              }
            }
            KVEVICT_UNROLLED for (int k = 0; k < sums_at_once; ++k) {
              // A new slot's own row is the first that sees it.
              if (i < slot[k] - (n.length - n.rows) || slot[k] >= dims) continue;
              KVEVICT_UNROLLED for (int l = 0; l < heads_at_once; ++l) sum[l][k] += weight * received[l][k];
            }
          }
          KVEVICT_UNROLLED for (int k = 0; k < sums_at_once; ++k) {
            if (from + k * b.threads() >= n.length) continue;
            KVEVICT_UNROLLED for (int l = 0; l < heads_at_once; ++l) {
              if (first + l < h.group_size) sums.store(t, q[l] * capacity + slot[k], sum[l][k]);
            }
          }
        }
      }
    });
  } else {
    b.each([&](int t) {
      KVEVICT_ROLLED for (index_t q = 0; q < h.group_size; ++q) {
        KVEVICT_ROLLED for (index_t j = t; j < n.length; j += b.threads())
            sums.store(t, q * capacity + j, start(t, q, j));
      }
    });
    const cache_shape shape = task.in.cache.shape();
    const index_t budget =
        plan_row(task.rule, task.protection, shape, n.row, n.length, budget_length(task.in, n.row, n.length)).nominal;
    const offset_t stride = task.longest;
    const auto logits = b.global(task.logits + n.row.index * rows_at_once * stride, rows_at_once * stride);
    const query_rows rows{n.row, n.length, h.group_size, n.rows, n.given - n.rows, n.seen + n.added - n.rows};
    attend(
        b, task.source, task.in.cache.keys(), given.entries, rows, budget,
        [&](index_t i) { return n.length - (n.rows - 1 - i); }, sums, capacity, logits, stride);
  }
}

/// Positions, the ring and the sums of a row, by one block. Slots beyond the capacity of the state or `longest` do not
/// become known.
template <class Block, class Task>
KVEVICT_HOST_DEVICE void observe_row(Block& b, const Task& task, const row_id& row) {
  using source = std::remove_cvref_t<decltype(task.source)>;
  constexpr auto kind =
      decltype(task.states)::feed == row_feed::attention ? input_kind::attention : input_kind::queries;
  const cache_shape shape = task.in.cache.shape();
  const auto state = task.states[row.seq];
  const state_header& h = state.header();
  const state_parts p = state.parts();
  const offset_t at = state.index(row);
  auto before = b.template make_local<index_t>(), tokens = before;
  b.each([&](int t) {
    before[t] = greatest(0, b.template load<index_t>(t, p.lengths + at));
    tokens[t] = b.template load<index_t>(t, p.seen + at);
  });
  const index_t old = b.uniform(before);
  new_slots n{row, least(task.in.cache.length(row), least(h.capacity, task.longest))};
  n.added = n.length - old;
  n.seen = b.uniform(tokens);
  if (n.added < 1 || n.seen < old || n.seen > 0x7fffffff - n.added) return;
  b.each([&](int t) {
    KVEVICT_ROLLED for (index_t k = t; k < n.added; k += b.threads())
        b.store(t, p.positions + at * h.capacity + old + k, n.seen + k);
  });
  if constexpr (!std::is_same_v<source, not_given>) {
    const auto& given = task.in.template get<kind>();
    n.given = given.row_count(shape, row);
    n.rows = greatest(0, least(n.added, n.given));
    remember_rows(b, task.states, n, given);
    if (h.sums > 0) add_to_sums(b, task, n, given);
  }
  b.sync();
  b.each([&](int t) {
    if (t != 0) return;
    b.store(t, p.lengths + at, n.length);
    b.store(t, p.seen + at, n.seen + n.added);
    if (at == 0) b.store(t, &p.header->seen, n.seen + n.added);  // no kernel reads that one
  });
}

/// The kernel: of the row that the block has.
template <class Block, class Task>
KVEVICT_HOST_DEVICE void observe_row(Block& b, const Task& task) {
  observe_row(b, task, task.in.cache.shape().row(b.index()));
}

}  // namespace kvevict::detail
