// SPDX-License-Identifier: MIT
// expect: pass a cache with values or a kvevict::value_norm_view
#include <kvevict/cpu.hpp>

using namespace kvevict;

constexpr float* memory = nullptr;
[[maybe_unused]] const entries keys{memory, hnd(1, 1, 8, 4), 4};
void call(const selection& out, const workspace& memory_of_caller) {
#if defined(WRONG)
  const inputs in{key_cache{cache_shape{}, 8, keys}, query_view{keys, 1, 8}};
#else
  const inputs in{key_cache{cache_shape{}, 8, keys}, query_view{keys, 1, 8}, value_norm_view{memory, {}}};
#endif
  static_cast<void>(evict(cpu{}, ahakv<>{}, in, out, memory_of_caller));
}
