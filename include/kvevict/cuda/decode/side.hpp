// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/compact/pieces.hpp>
#include <kvevict/cuda/decode/states.hpp>

/// States as a side of a compaction: positions, sums and remembered attention follow the retained slots, in token order
/// also where keys and values are swapped, in the launch that moves these.
namespace kvevict::detail {

/// Slides array[retained[k]] to array[k], in chunks as `slide_entries` does (compact/in_place.hpp).
template <class T, class Block>
KVEVICT_HOST_DEVICE void slide_array(Block& b, T* array, const index_t* retained, index_t count) {
  auto held = b.template make_local<T>();
  KVEVICT_ROLLED for (offset_t start = 0; start < count; start += b.threads()) {
    const offset_t last = least<offset_t>(start + b.threads(), count) - 1;
    if (retained[last] == last) continue;
    b.each([&](int t) {
      if (start + t < count) held[t] = b.template load<T>(t, array + retained[start + t]);
    });
    b.sync();
    b.each([&](int t) {
      if (start + t < count) b.store(t, array + start + t, held[t]);
    });
  }
}

/// What is remembered of the slots of a row follows those that it retains, by one block.
template <class Block, row_feed Feed>
KVEVICT_HOST_DEVICE void retain_in_state(Block& b, const device_states<Feed>& states, const row_id& row,
                                         const index_t* retained, index_t count) {
  const auto state = states[row.seq];
  const state_header& h = state.header();
  const state_parts p = state.parts();
  const offset_t capacity = h.capacity, at = state.index(row);
  if (count < 0 || count > capacity) return;
  slide_array(b, p.positions + at * capacity, retained, count);
  KVEVICT_ROLLED for (offset_t i = 0; i < h.sums * h.group_size; ++i)
      slide_array(b, p.sums + (at * h.group_size + i) * capacity, retained, count);
  if constexpr (Feed == row_feed::attention) {
    KVEVICT_ROLLED for (offset_t w = 0; w < h.window; ++w) {
      KVEVICT_ROLLED for (offset_t i = 0; i < h.group_size; ++i)
          slide_array(b, p.recent + ((w * h.layers * h.kv_heads + at) * h.group_size + i) * capacity, retained, count);
    }
  }
  b.each([&](int t) {
    if (t == 0) b.store(t, p.lengths + at, count);
  });
}

/// States as a side and among what a compaction moves (`moved_list`): one block of a row has them.
template <row_feed Feed>
struct moved_states {
  device_states<Feed> states;

  [[nodiscard]] static status check() { return {}; }
  template <class Cache>
  [[nodiscard]] status fits(const Cache& cache) const {
    return check_extents(states, cache.shape());
  }
  [[nodiscard]] KVEVICT_HOST_DEVICE static constexpr index_t parts() { return 1; }
  template <class Block>
  KVEVICT_HOST_DEVICE void retain(Block& b, const row_id& row, const row_moves& kept) const {
    if (kept.targets != nullptr) return;  // the second launch of a swap-fill; the first has done it
    retain_in_state(b, states, row, kept.slots + kept.offsets[row.index], kept.count(row.index));
  }
};

template <row_feed Feed>
[[nodiscard]] moved_states<Feed> deal_side(const moved_states<Feed>& s) {
  return s;
}

}  // namespace kvevict::detail

namespace kvevict {

/// `compact_in_place(gpu{stream}, cache, kept, side(states))`; also of `gather` and `swap_fill`.
template <row_feed Feed>
[[nodiscard]] detail::moved_states<Feed> side(const device_states<Feed>& of) {
  return {of};
}

}  // namespace kvevict
