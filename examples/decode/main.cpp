// SPDX-License-Identifier: MIT
// An engine that decodes on a paged cache: every kv_head has a block table of its own, and blocks that an eviction
// empties go back to the pool. A prompt comes in pieces, then token by token; heads get what they need (Ada-KV).
#include <cmath>
#include <cstdio>
#include <kvevict/cpu.hpp>
#include <vector>

using namespace kvevict;

/// The engine's memory: one pool of blocks for all layers and heads, and the tables that say who holds which.
struct pool {
  static constexpr index_t block_size = 16, dims = 32, layers = 2, kv_heads = 2, query_heads = 6, max_blocks = 32;
  static constexpr cache_shape shape{layers, 1, kv_heads};

  std::vector<index_t> unused, table, held, lengths;
  std::vector<bfloat16> keys, values;

  explicit pool(index_t blocks)
      : table(layers * kv_heads * max_blocks, -1),
        held(layers * kv_heads),
        lengths(layers * kv_heads),
        keys(static_cast<std::size_t>(blocks * block_size * dims)),
        values(keys.size()) {
    for (index_t b = blocks; b > 0; --b) unused.push_back(b - 1);
  }
  [[nodiscard]] paged layout() const { return paged_per_row(table.data(), max_blocks, block_size, dims); }
  [[nodiscard]] auto view() {
    return cache{shape, lengths.data(), entries{keys.data(), layout(), dims}, entries{values.data(), layout(), dims}};
  }
  /// Blocks for `more` slots of every row; what an engine's allocator does.
  void reserve(index_t more) {
    for (std::size_t r = 0; r < held.size(); ++r)
      for (; held[r] * block_size < lengths[r] + more; ++held[r]) {
        table[r * max_blocks + static_cast<std::size_t>(held[r])] = unused.back();
        unused.pop_back();
      }
  }
};

/// What a model would give for `count` tokens: keys and values [rows][count][dims], queries [query_heads][count][dims].
struct tokens {
  std::vector<bfloat16> keys, values;
  std::vector<float> queries;

  tokens(index_t first, index_t count) {
    const auto wave = [&](auto& to, index_t heads, float frequency, auto convert) {
      for (index_t h = 0; h < heads; ++h)
        for (index_t t = first; t < first + count; ++t)
          for (index_t d = 0; d < pool::dims; ++d)
            to.push_back(convert(2 * std::sin(frequency * float((t * 31 + d) * (h + 3) % 1013))));
    };
    wave(keys, pool::layers * pool::kv_heads, 0.37F, to_bfloat16);
    wave(values, pool::layers * pool::kv_heads, 0.53F, to_bfloat16);
    wave(queries, pool::layers * pool::query_heads, 0.71F, [](float x) { return x; });
  }
};

// ---- the glue ----
template <class Policy>
struct evicting_cache {
  Policy policy;
  index_t slack;  ///< evict when the rows together hold so many slots above their budgets
  pool& memory;
  std::vector<cache_line> state_memory, scratch{};
  decode_state<> state{};

  evicting_cache(const Policy& p, index_t w, pool& m) : policy(p), slack(w), memory(m) {
    const sequence_extent extent{
        .shape = m.shape, .capacity = m.max_blocks * m.block_size, .query_heads = m.query_heads, .head_dim = m.dims};
    state_memory.resize(cache_lines(state_bytes(policy, extent)));
    state = decode_state{workspace_of(state_memory)};
    if (const status s = start(policy, extent, state); !s.ok()) std::printf("%s: %s\n", s.argument, s.sentence);
  }
  [[nodiscard]] workspace room(offset_t bytes) {
    if (scratch.size() < cache_lines(bytes)) scratch.resize(cache_lines(bytes));
    return workspace_of(scratch);
  }

  status add(const tokens& t, index_t count) {
    memory.reserve(count);
    const strided order = hnd(1, memory.kv_heads, count, memory.dims);
    const cache added{memory.shape, count, entries{t.keys.data(), order, memory.dims},
                      entries{t.values.data(), order, memory.dims}};
    if (const status s = append(cpu{}, added, memory.view(), memory.lengths); !s.ok()) return s;
    const entries rows{t.queries.data(), hnd(1, memory.query_heads, count, memory.dims), memory.dims};
    const inputs in{memory.view(), query_view{rows, memory.query_heads, count}};
    if (const status s = observe(cpu{}, policy, state, in, room(workspace_bytes(cpu{}, policy, state, in))); !s.ok())
      return s;
    offset_t slots_held = 0, budgets = selection_capacity(policy, state, in);
    for (const index_t n : memory.lengths) slots_held += n;
    return slots_held < budgets + slack * memory.shape.rows() ? status{} : shrink(budgets);
  }

  status shrink(offset_t budgets) {
    std::vector<index_t> slots(static_cast<std::size_t>(budgets)), freed(memory.table.size());
    std::vector<offset_t> offsets(memory.lengths.size() + 1);
    const selection kept{slots, offsets};
    const inputs in{memory.view()};
    const workspace work = room(workspace_bytes(cpu{}, policy, state, in));
    if (const status s = evict(cpu{}, policy, state, in, kept, work); !s.ok()) return s;
    if (const status s = compact_in_place(cpu{}, memory.view(), kept, side(state)); !s.ok()) return s;
    retained_lengths(kept, memory.lengths.data());
    offset_t count = 0;
    const status s =
        free_blocks(memory.layout(), memory.shape, memory.lengths.data(), 0, {memory.held.data()}, freed, count);
    for (offset_t i = 0; i < count; ++i) memory.unused.push_back(freed[static_cast<std::size_t>(i)]);
    return s;
  }
};
// ---- end of glue ----

int main() {
  constexpr index_t blocks = 96;
  pool memory(blocks);
  evicting_cache engine{adakv{ahakv<>{.budget = slots(96), .window = 16}}, 16, memory};
  for (index_t seen = 0; seen < 1000;) {
    const index_t count = seen < 256 ? 64 : 1;  // a prompt of 256 tokens in pieces, then decode
    if (const status s = engine.add(tokens(seen, count), count); !s.ok()) {
      std::printf("%s: %s\n", s.argument, s.sentence);
      return 1;
    }
    seen += count;
    if (seen <= 256 || seen % 186 == 70) {
      std::printf("%4d tokens seen, %2d of %d blocks held; slots of the heads:", seen,
                  blocks - index_t(memory.unused.size()), blocks);
      for (const index_t length : memory.lengths) std::printf(" %3d", length);
      std::printf("\n");
    }
  }
}
