// SPDX-License-Identifier: MIT
// expect: swap_fill compacts such a cache
#include <kvevict/cpu.hpp>

using namespace kvevict;

constexpr float* memory = nullptr;

void compact(const token_order& order, const selection& kept) {
  const entries keys{memory, hnd(1, 2, 8, 4), 4};
  const cache physical{cache_shape{1, 1, 2}, 8, keys, keys};
#if defined(WRONG)
  static_cast<void>(compact_in_place(cpu{}, in_token_order(physical, order), kept));
#else
  static_cast<void>(swap_fill(cpu{}, physical, order, kept));
#endif
}
