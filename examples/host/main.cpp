// SPDX-License-Identifier: MIT
// An engine with its own memory hosts the library: what an engine author writes is the function `evict_cache`.
#include <cmath>
#include <cstdio>
#include <kvevict/cpu.hpp>
#include <vector>

/// A small engine: fp16, keys and values of a slot side by side, all layers in one allocation,
/// [layers][slots][key, value][kv_heads][dims], and the queries of the last rows of the prompt.
struct engine {
  static constexpr int layers = 4, kv_heads = 2, query_heads = 6, dims = 16, slots = 512, window = 32;
  std::vector<kvevict::half> memory = std::vector<kvevict::half>(layers * slots * 2 * kv_heads * dims);
  std::vector<float> queries = std::vector<float>(layers * query_heads * window * dims);  // [layers][heads][rows][dims]
  std::vector<int> lengths = std::vector<int>(layers * kv_heads, slots);
  std::vector<int> positions = std::vector<int>(layers * kv_heads * slots);  // [layers][kv_heads][slots]
};

// ---- the glue ----
template <class Policy>
kvevict::status evict_cache(engine& e, const Policy& policy) {
  using namespace kvevict;
  const strided order{.layer = e.slots * 2 * e.kv_heads * e.dims, .head = e.dims, .slot = 2 * e.kv_heads * e.dims};
  const cache view{cache_shape{e.layers, 1, e.kv_heads}, e.lengths.data(), entries{e.memory.data(), order, e.dims},
                   entries{e.memory.data() + e.kv_heads * e.dims, order, e.dims}};
  const entries rows{e.queries.data(), hnd(1, e.query_heads, e.window, e.dims), e.dims};
  const inputs in{view, query_view{rows, e.query_heads, e.window}};

  std::vector<index_t> slots(static_cast<std::size_t>(selection_capacity(policy, in)));
  std::vector<offset_t> offsets(static_cast<std::size_t>(view.shape().rows()) + 1);
  std::vector<cache_line> scratch(cache_lines(workspace_bytes(cpu{}, policy, in)));
  const selection kept{slots, offsets};
  if (const status s = evict(cpu{}, policy, in, kept, workspace_of(scratch)); !s.ok()) return s;

  const strided per_slot{.layer = e.kv_heads * e.slots, .head = e.slots, .slot = 1};
  if (const status s = compact_in_place(cpu{}, view, kept, side(e.positions.data(), per_slot)); !s.ok()) return s;
  retained_lengths(kept, e.lengths.data());
  return {};
}
// ---- end of glue ----

int main() {
  engine e;
  for (std::size_t i = 0; i < e.memory.size(); ++i)
    e.memory[i] = kvevict::to_half(std::sin(0.37F * float(i * i % 1009)));
  for (std::size_t i = 0; i < e.queries.size(); ++i) e.queries[i] = 2 * std::cos(0.53F * float(i * i % 997));
  for (std::size_t i = 0; i < e.positions.size(); ++i) e.positions[i] = int(i) % e.slots;

  const kvevict::adakv policy{kvevict::snapkv<>{.budget = kvevict::percent(25)}};
  const kvevict::status s = evict_cache(e, policy);
  if (!s.ok()) {
    std::printf("%s: %s\n", s.argument, s.sentence);
    return 1;
  }
  for (int layer = 0; layer < e.layers; ++layer) {
    std::printf("layer %d:", layer);
    for (int head = 0; head < e.kv_heads; ++head) {
      const int row = layer * e.kv_heads + head, length = e.lengths[std::size_t(row)];
      const int* positions = e.positions.data() + row * e.slots;
      std::printf("  head %d holds %3d of %d slots, positions %3d .. %d", head, length, e.slots, positions[0],
                  positions[length - 1]);
    }
    std::printf("\n");
  }
}
