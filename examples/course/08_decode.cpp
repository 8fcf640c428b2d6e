// SPDX-License-Identifier: MIT
// 8. Decode. A cache lives on: after the prompt of 1000 tokens, 500 tokens come one by one, and whenever a row holds
// 128 + w slots it is evicted to 128 again. What a policy must remember lies in a state beside the cache: nothing but
// positions, the last queries, or a running sum per slot. Evicting at each step or every 16 steps are two definitions.
// Equation: the running sum s_j += a_ij over the slots then cached, H2O (arXiv 2306.14048) algorithm 1.
// Headers: kvevict/decode/state.hpp, kvevict/cpu/decode/observe.hpp. Tests: tests/decode/rules.cpp, state.cpp.
#include <algorithm>
#include <cstdio>

#include "course.hpp"

using namespace kvevict;

constexpr index_t prompt = 1000, budget_slots = 128, capacity = 1500;

struct life {
  offset_t bytes = 0;                           ///< of the state
  std::vector<std::vector<index_t>> positions;  ///< held at the end, per kv_head
};

template <class Policy>
life decode(const Policy& policy, layer_capture c, index_t every) {
  layer_capture text = c;  // the engine changes its memory, the text stays
  const sequence_extent extent{
      .shape = {1, 1, c.kv_heads}, .capacity = capacity, .query_heads = c.query_heads, .head_dim = c.dim};
  std::vector<cache_line> memory(cache_lines(state_bytes(policy, extent))), scratch;
  const decode_state state{workspace_of(memory)};
  require(start(policy, extent, state));
  std::vector<index_t> lengths(std::size_t(c.kv_heads), 0);
  for (index_t seen = 0; seen < c.length;) {
    const index_t count = seen == 0 ? prompt : 1;
    cache view = cache_of(c, 0);
    view.lengths = lengths.data();
    require(append(cpu{}, cache_of(text, count, seen), view, lengths));
    const inputs in{view, queries_of(text, seen, count)};
    scratch.resize(std::max(scratch.size(), std::size_t(cache_lines(workspace_bytes(cpu{}, policy, state, in)))));
    require(observe(cpu{}, policy, state, in, workspace_of(scratch)));
    seen += count;
    if (lengths[0] < budget_slots + every) continue;
    evicted kept(selection_capacity(policy, state, in), c.kv_heads);
    require(evict(cpu{}, policy, state, in, kept.view(), workspace_of(scratch)));
    require(compact_in_place(cpu{}, view, kept.view(), side(state)));
    retained_lengths(kept.view(), lengths.data());
  }
  life end{state_bytes(policy, extent), {}};
  for (index_t h = 0; h < c.kv_heads; ++h) {
    const auto held = state.positions(row_id{0, 0, h, h});
    end.positions.emplace_back(held.begin(), held.end());
  }
  return end;
}

template <class Policy>
void print(const char* name, const Policy& policy, const layer_capture& c) {
  const life steps = decode(policy, c, 1), rests = decode(policy, c, 16);
  int common = 0, all = 0, parts[4] = {};
  for (std::size_t h = 0; h < steps.positions.size(); ++h)
    for (const index_t p : steps.positions[h]) {
      ++all;
      common += std::binary_search(rests.positions[h].begin(), rests.positions[h].end(), p) ? 1 : 0;
      ++parts[p < 4 ? 0 : p < prompt ? 1 : p < c.length - 64 ? 2 : 3];
    }
  std::printf("%-14s %7.1f", name, double(steps.bytes) / 1024);
  for (const int part : parts) std::printf("  %8.0f%%", 100.0 * part / all);
  std::printf("  %12.0f%%\n", 100.0 * common / all);
}

int main() {
  const layer_capture c = capture_file(KVEVICT_CAPTURE).load(10);
  std::printf("held after 1500 tokens, 3 kv_heads x 128 slots, evicted at each step\n");
  std::printf("policy         state KiB  first 4  of prompt  generated   last 64  as w = 16\n");
  print("streaming_llm", streaming_llm{.budget = slots(budget_slots)}, c);
  print("h2o", h2o{.budget = slots(budget_slots)}, c);
  print("tova", tova{.budget = slots(budget_slots)}, c);
  print("snapkv", snapkv<>{.budget = slots(budget_slots)}, c);
  print("keydiff", keydiff{.budget = slots(budget_slots)}, c);
}
