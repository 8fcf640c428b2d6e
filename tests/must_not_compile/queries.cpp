// SPDX-License-Identifier: MIT
// expect: pass a kvevict::query_view to kvevict::inputs
#include <kvevict/cpu.hpp>

using namespace kvevict;

constexpr float* memory = nullptr;
[[maybe_unused]] const entries keys{memory, hnd(1, 1, 8, 4), 4};
[[maybe_unused]] const cache view{cache_shape{}, 8, keys, keys};

void call(const selection& out, const workspace& memory_of_caller) {
#if defined(WRONG)
  const inputs in{view};
#else
  const inputs in{view, query_view{keys, 1, 8}};
#endif
  static_cast<void>(evict(cpu{}, snapkv<>{}, in, out, memory_of_caller));
}
