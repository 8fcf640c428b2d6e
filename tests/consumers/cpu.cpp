// SPDX-License-Identifier: MIT
#include <kvevict/cpu.hpp>

int main() {
  const float keys[] = {3, 1, 2, 5};
  const kvevict::entries view{keys, kvevict::hnd(1, 1, 4, 1), 1};
  const kvevict::inputs in{kvevict::key_cache{kvevict::cache_shape{}, 4, view}};
  const kvevict::knorm policy{.budget = kvevict::slots(2)};
  kvevict::index_t slots[2];
  kvevict::offset_t offsets[2];
  alignas(64) static std::byte memory[1 << 16];
  const kvevict::status s = kvevict::evict(kvevict::cpu{}, policy, in, {{slots, 2}, {offsets, 2}}, {memory, 1 << 16});
  return s.ok() && slots[0] == 1 && slots[1] == 2 ? 0 : 1;
}
