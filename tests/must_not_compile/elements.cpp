// SPDX-License-Identifier: MIT
// expect: source and destination need the same element type
#include <kvevict/cpu.hpp>

using namespace kvevict;

constexpr float* memory = nullptr;
[[maybe_unused]] const entries keys{memory, hnd(1, 1, 8, 4), 4};
[[maybe_unused]] const cache from{cache_shape{}, 8, keys, keys};
#if defined(WRONG)
constexpr half* target = nullptr;
#else
constexpr float* target = nullptr;
#endif

status call(const selection& kept) {
  const entries to{target, hnd(1, 1, 8, 4), 4};
  return gather(cpu{}, from, kept, cache{cache_shape{}, 8, to, to});
}
