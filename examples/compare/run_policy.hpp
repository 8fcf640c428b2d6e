// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <cstring>
#include <kvevict/cpu.hpp>
#include <kvevict/cpu/openmp.hpp>
#include <kvevict/policy/spec.hpp>
#include <stdexcept>
#include <vector>

#include "device.hpp"

/// One policy on one layer, stage by stage. A template over every policy that `compare` knows takes long to compile, so
/// translation units share the work: run_plain.cpp and run_adaptive.cpp, and two more for decode.

/// The best of up to ten rounds, because the first ones pay for pages and threads, and any of them for what else the
/// machine does; a long stage runs once.
template <class F>
double seconds(const F& f) {
  double best = 1e9, spent = 0;
  for (int round = 0; round < 10 && spent < 0.03; ++round) {
    const auto start = std::chrono::steady_clock::now();
    f();
    const double time = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    best = time < best ? time : best;
    spent += time;
  }
  return best;
}

/// Fills `result`; the status says what is wrong with the policy on this layer.
template <class Policy>
kvevict::status run(const Policy& policy, const layer_capture& c, const task& what, layer_run& result) {
  using namespace kvevict;
  const cpu on{openmp{}};
  const index_t length = c.length - what.future;
  const cache_shape shape{1, 1, c.kv_heads, what.index, what.depth};
  const cache whole{shape, length, entries{c.keys.data(), hnd(1, c.kv_heads, c.length, c.dim), c.dim},
                    entries{c.values.data(), hnd(1, c.kv_heads, c.length, c.value_dim), c.value_dim}};
  const inputs in{whole, query_view{entries{c.queries.data(), hnd(1, c.query_heads, c.rows, c.dim), c.dim},
                                    c.query_heads, greatest(0, c.rows - what.future)}};

  std::vector<offset_t> offsets(static_cast<std::size_t>(c.kv_heads) + 1);
  std::vector<index_t> slots(static_cast<std::size_t>(selection_capacity(policy, in)));
  std::vector<row_receipt> receipts(what.on_device ? static_cast<std::size_t>(c.kv_heads) : 0);
  const selection kept{slots, offsets, receipts};
  std::vector<cache_line> scratch(cache_lines(workspace_bytes(on, policy, in)));
  const workspace memory = workspace_of(scratch);

  std::vector<float> scores(static_cast<std::size_t>(c.kv_heads) * static_cast<std::size_t>(length));
  std::vector<offset_t> score_offsets(offsets.size());
  for (std::size_t h = 0; h < score_offsets.size(); ++h) score_offsets[h] = static_cast<offset_t>(h) * length;
  status s;
  result.score_seconds = seconds([&] {
    s = score_rows(on, policy, in, ragged<float>{scores.data(), score_offsets.data(), c.kv_heads}, memory);
  });
  if (s.ok()) {
    const row_scores scored{shape, {scores.data(), score_offsets.data(), c.kv_heads}};
    result.select_seconds = seconds([&] { s = select(on, policy, scored, kept, memory); });
    if (what.on_device) result.scores = scores;
    for (const row_receipt& receipt : receipts) result.thresholds.push_back(receipt.threshold);
  } else if (s.code == status_code::bad_input) {
    s = evict(on, policy, in, kept, memory);  // a budget that covers every row needs no scores
  }
  if (!s.ok()) return s;

  // The survivors of all heads, back to back, with no room to spare.
  std::vector<offset_t> places(offsets.size());
  flat_offsets(kept, 0, places.data());
  const auto total = static_cast<std::size_t>(places.back());
  std::vector<float> keys(total * static_cast<std::size_t>(c.dim)),
      values(total * static_cast<std::size_t>(c.value_dim));
  const cache smaller{shape, index_t{0}, entries{keys.data(), flat{places.data(), c.dim}, c.dim},
                      entries{values.data(), flat{places.data(), c.value_dim}, c.value_dim}};
  result.compact_seconds = seconds([&] { s = gather(on, whole, kept, smaller); });
  if (!s.ok()) return s;

  std::vector<float> copy(c.keys.size() + c.values.size());
  result.copy_seconds = seconds([&] {
    std::memcpy(copy.data(), c.keys.data(), c.keys.size() * sizeof(float));
    std::memcpy(copy.data() + c.keys.size(), c.values.data(), c.values.size() * sizeof(float));
  });
  for (index_t h = 0; h < c.kv_heads; ++h) result.retained.emplace_back(kept[h].begin(), kept[h].end());
  result.evictions.push_back({0, result.retained});
  return s;
}

/// The same on the device, whose slots and times `result` takes over; by the same scores it must select what the CPU
/// selects.
template <class Policy>
void run_there_too(const Policy& policy, const layer_capture& c, const task& what, const policy_run& of,
                   layer_run& result) {
  using namespace kvevict;
  const device_run device = run_on_device(c, what, of.spec, of.budget);
  const index_t length = c.length - what.future;
  std::vector<offset_t> score_offsets, offsets(static_cast<std::size_t>(c.kv_heads) + 1);
  for (index_t h = 0; h <= c.kv_heads; ++h) score_offsets.push_back(static_cast<offset_t>(h) * length);
  const row_scores scored{{1, 1, c.kv_heads, what.index, what.depth},
                          {device.scores.data(), score_offsets.data(), c.kv_heads}};
  std::vector<index_t> slots(device.scores.size());
  const cpu on{openmp{}};
  std::vector<cache_line> scratch(cache_lines(workspace_bytes(on, policy, scored)));
  const status s = select(on, policy, scored, selection{slots, offsets}, workspace_of(scratch));
  slots.resize(s.ok() ? static_cast<std::size_t>(offsets.back()) : 0);
  if (!s.ok() || offsets != device.offsets || slots != device.slots)
    throw std::runtime_error(of.spec + ", layer " + std::to_string(c.layer) +
                             ": by the same scores the device selects other slots than the CPU");
  take_device_run(c, device, result);
}

/// Runs the policy of run.spec if it is of this kind: with head-wise budgets, or without.
template <bool Adaptive>
void run_kind(const layer_capture& capture, const task& what, policy_run& of) {
  std::string problem;
  const std::string wrong_spec = kvevict::visit_policy(of.spec, of.budget, [&](const auto& policy) {
    if constexpr (Adaptive == requires { policy.base; }) {
      layer_run result;
      const kvevict::status s = run(policy, capture, what, result);
      if (s.ok()) {
        if (what.on_device) run_there_too(policy, capture, what, of, result);
        of.layers.push_back(std::move(result));
      } else {
        problem = problem_of(s);
        if (s.code == kvevict::status_code::bad_input)
          problem += " [the file has " + std::to_string(capture.rows - what.future) + " before the future]";
      }
    }
  });
  of.problem = wrong_spec.empty() ? problem : wrong_spec;
}
