// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/core/types.hpp>

namespace kvevict {

/// Numbers that loops of the CPU take at once: a multiple of what any vector holds.
inline constexpr index_t loop_block = 32;

/// Calls f(i) for every i below `count`. A plain loop, but for one thing: g++ makes vectors of a loop at -O2 only if it
/// has a fixed length and no branches (and its pointers, if they are to different types, need no look at addresses).
template <class F>
[[gnu::always_inline]] KVEVICT_HOST_DEVICE constexpr void each_in_blocks(index_t count, const F& f) {
  index_t i = 0;
  for (; i + loop_block <= count; i += loop_block)
    for (index_t k = 0; k < loop_block; ++k) f(i + k);
  for (; i < count; ++i) f(i);
}

}  // namespace kvevict
