// SPDX-License-Identifier: MIT
// expect: the destination needs values because the source has them
#include <kvevict/cpu.hpp>

using namespace kvevict;

constexpr float* memory = nullptr;
[[maybe_unused]] const entries keys{memory, hnd(1, 1, 8, 4), 4};
[[maybe_unused]] const cache from{cache_shape{}, 8, keys, keys};

status call(const selection& kept) {
#if defined(WRONG)
  return gather(cpu{}, from, kept, key_cache{cache_shape{}, 8, keys});
#else
  return gather(cpu{}, from, kept, cache{cache_shape{}, 8, keys, keys});
#endif
}
