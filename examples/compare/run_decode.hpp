// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <kvevict/cpu.hpp>
#include <kvevict/cpu/openmp.hpp>
#include <vector>

#include "runs.hpp"

/// One policy on one layer along decode: the prompt is observed and evicted, then the future tokens are appended one by
/// one, each with its query row, and the rows are evicted whenever they hold `every` slots more than their budget.
/// Fills `result.evictions`; the status says what is wrong.
template <class Policy>
kvevict::status decode(const Policy& policy, const layer_capture& c, const task& what, layer_run& result) {
  using namespace kvevict;
  const cpu on{openmp{}};
  const index_t prompt = c.length - what.future;
  const cache_shape shape{1, 1, c.kv_heads, what.index, what.depth};

  // The engine: room for every token per head, of which the first `lengths` are occupied.
  std::vector<float> keys = c.keys, values = c.values;
  std::vector<index_t> lengths(static_cast<std::size_t>(c.kv_heads), prompt), one(lengths.size(), 1);
  const strided key_order = hnd(1, c.kv_heads, c.length, c.dim),
                value_order = hnd(1, c.kv_heads, c.length, c.value_dim);
  const cache held{shape, lengths.data(), entries{keys.data(), key_order, c.dim},
                   entries{values.data(), value_order, c.value_dim}};
  const auto rows = [&](index_t first, index_t count) {
    return query_view{
        entries{c.queries.data() + static_cast<offset_t>(first) * c.dim, hnd(1, c.query_heads, c.rows, c.dim), c.dim},
        c.query_heads, count};
  };

  const sequence_extent extent{
      .shape = shape, .capacity = c.length, .query_heads = c.query_heads, .head_dim = c.dim, .prompt_length = prompt};
  std::vector<cache_line> memory(cache_lines(state_bytes(policy, extent))), scratch;
  const decode_state state{workspace_of(memory)};
  if (const status s = start(policy, extent, state); !s.ok()) return s;

  std::vector<index_t> slots(static_cast<std::size_t>(c.kv_heads) * static_cast<std::size_t>(c.length));
  std::vector<offset_t> offsets(lengths.size() + 1);
  const selection kept{slots, offsets};
  const auto room = [&](const auto& in) {
    const std::size_t lines = cache_lines(workspace_bytes(on, policy, state, in));
    if (scratch.size() < lines) scratch.resize(lines);
    return workspace_of(scratch);
  };
  const auto evict_at = [&](index_t step) {
    const inputs in{held};
    if (const status s = evict(on, policy, state, in, kept, room(in)); !s.ok()) return s;
    if (const status s = compact_in_place(on, held, kept, side(state)); !s.ok()) return s;
    retained_lengths(kept, lengths.data());
    eviction& e = result.evictions.emplace_back();
    e.after = step;
    for (index_t h = 0; h < c.kv_heads; ++h) {
      const auto positions = state.positions({0, 0, h, h});
      e.retained.emplace_back(positions.begin(), positions.end());
    }
    return status{};
  };

  // Rows of a layer that share a budget hold it together, so the layer is what is counted.
  offset_t full = 0;
  for (index_t h = 0; h < c.kv_heads; ++h)
    full += what.every +
            policy.rule().nominal(shape, {{0, 0, h, h}, prompt, policy.protection().of(prompt, prompt).count()});

  const inputs prompt_rows{held, rows(0, c.rows - what.future)};
  if (const status s = observe(on, policy, state, prompt_rows, room(prompt_rows)); !s.ok()) return s;
  if (const status s = evict_at(0); !s.ok()) return s;
  const auto start_time = std::chrono::steady_clock::now();
  for (index_t t = 0; t < what.future; ++t) {
    const cache token{
        shape, one.data(), entries{c.keys.data() + static_cast<offset_t>(prompt + t) * c.dim, key_order, c.dim},
        entries{c.values.data() + static_cast<offset_t>(prompt + t) * c.value_dim, value_order, c.value_dim}};
    if (const status s = append(on, token, held, lengths); !s.ok()) return s;
    const inputs in{held, rows(c.rows - what.future + t, 1)};
    if (const status s = observe(on, policy, state, in, room(in)); !s.ok()) return s;
    offset_t slots_held = 0;
    for (const index_t n : lengths) slots_held += n;
    if (slots_held >= full)
      if (const status s = evict_at(t + 1); !s.ok()) return s;
  }
  result.decode_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_time).count();
  return {};
}

/// Decodes with the policy of run.spec if it is of this kind: with head-wise budgets, or without.
template <bool Adaptive>
void decode_kind(const layer_capture& capture, const task& what, policy_run& of) {
  static_cast<void>(kvevict::visit_policy(of.spec, of.budget, [&](const auto& policy) {
    if constexpr (Adaptive == requires { policy.base; }) {
      layer_run& layer = of.layers.back();
      layer.evictions.clear();
      const kvevict::status s = decode(policy, capture, what, layer);
      if (!s.ok()) of.problem = "along decode, " + problem_of(s);
      layer.retained = layer.at(what.future, capture.length - what.future);
    }
  }));  // run_policy has reported what is wrong with the spec
}
