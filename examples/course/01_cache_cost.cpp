// SPDX-License-Identifier: MIT
// 1. What a cache costs
//
// Every token leaves a key and a value in every layer and kv_head:
//     bytes per token = 2 * layers * kv_heads * dims * bytes per element
// Weights are paid once, the cache per token and sequence, so at some length it outweighs the model. A budget of 25 %
// of the slots caps that; how many slots a policy will keep is known before anything is computed.
//
// Equation: the one above. Headers: kvevict/cpu/evict.hpp, selection_capacity; kvevict/core/amount.hpp.
// Test: tests/budget/budget.cpp, shares of a length.
#include <cstdint>
#include <cstdio>
#include <kvevict/cpu.hpp>

using namespace kvevict;

struct model {
  const char* name;
  int layers, kv_heads, dims;
  double weights;  // in GB, 16 bits each
};

// The slots of one sequence that a policy keeps in all layers: no memory is looked at, so none is needed.
std::int64_t slots_kept(const model& m, int tokens, amount budget) {
  const bfloat16* const nowhere = nullptr;
  const entries keys{nowhere, hnd(1, m.kv_heads, tokens, m.dims), m.dims};
  const cache view{cache_shape{m.layers, 1, m.kv_heads}, tokens, keys, keys};
  return selection_capacity(snapkv<>{.budget = budget}, inputs{view});
}

int main() {
  const model models[] = {{"SmolLM2-135M", 30, 3, 64, 0.27}, {"Llama-3-8B", 32, 8, 128, 16.06}};
  for (const model& m : models) {
    if (&m != models) std::printf("\n");
    const int per_token = 2 * m.layers * m.kv_heads * m.dims * 2;
    std::printf("%s: %d bytes per token, weights %.2f GB\n", m.name, per_token, m.weights);
    std::printf("%10s %12s %14s %12s %14s\n", "tokens", "cache, GB", "% of weights", "25 %, GB", "1024 slots, GB");
    for (const int tokens : {1024, 8192, 32768, 131072}) {
      const double whole = 1e-9 * per_token * tokens;
      const double slot = 1e-9 * 2 * m.dims * 2;  // of one kv_head
      std::printf("%10d %12.3f %14.1f %12.3f %14.3f\n", tokens, whole, 100 * whole / m.weights,
                  slot * static_cast<double>(slots_kept(m, tokens, percent(25))),
                  slot * static_cast<double>(slots_kept(m, tokens, slots(1024))));
    }
  }
}
