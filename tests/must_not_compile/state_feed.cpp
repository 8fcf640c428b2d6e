// SPDX-License-Identifier: MIT
// expect: pass a kvevict::attention_view to kvevict::inputs
#include <kvevict/cpu.hpp>

using namespace kvevict;

constexpr float* memory = nullptr;
[[maybe_unused]] const entries keys{memory, hnd(1, 1, 8, 4), 4};
[[maybe_unused]] const cache view{cache_shape{}, 8, keys, keys};

void call(const workspace& state, const workspace& scratch) {
  const inputs in{view, query_view{keys, 1, 8}};
#if defined(WRONG)
  static_cast<void>(observe(cpu{}, h2o{}, decode_state<row_feed::attention>{state}, in, scratch));
#else
  static_cast<void>(observe(cpu{}, h2o{}, decode_state{state}, in, scratch));
#endif
}
