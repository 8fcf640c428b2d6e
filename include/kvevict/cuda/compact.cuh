// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <kvevict/core/workspace.hpp>
#include <kvevict/cuda/compact/gather.hpp>
#include <kvevict/cuda/compact/in_place.hpp>
#include <kvevict/cuda/compact/swap_fill.hpp>
#include <kvevict/cuda/detail/launch.cuh>
#include <kvevict/view/check.hpp>

/// Compaction on the device (compact/moves.hpp): the bytes that the CPU leaves, in one launch (swap-fill: two).
///
/// @code{.cu}
/// status s = compact_in_place(gpu{stream}, view, kept, side(positions, layout));
/// if (s.ok()) s = retained_lengths(gpu{stream}, kept, lengths);
/// @endcode
///
/// Sides are side arrays, the states of decode (cuda/decode/side.hpp), and `turned_keys`, with which keys turn while
/// they move: positions of any size are exact to 2e-9 radians (cuda/compact/turn.hpp) and the arithmetic is fp32, so
/// the last bits may differ from the CPU's double. A layout of an engine's own must be callable on the device; entries
/// in it move element by element, because the host cannot tell where they start. The host does not read the selection:
/// it is one that `select` wrote, ascending in every row. A row for which it has no room (its offsets exceed the room
/// of its slots), or for which a destination has none, does not move at all.
namespace kvevict {

namespace detail {

inline constexpr int gather_threads = 256;
inline constexpr int in_place_threads = 512;
inline constexpr int swap_threads = 512;
inline constexpr int lengths_threads = 256;

/// What a compaction on the device can take along.
template <class Side>
concept device_side = turns_keys<Side> || requires(const Side& s) {
  deal_side(s);
};

template <class Moved>
struct gather_body {
  static constexpr int blocks_together = Moved::turns ? 1 : 3;
  gather_task<Moved> task;
  template <class Block>
  __device__ void operator()(Block& b) const {
    gather_rows(b, task);
  }
};

template <class Moved>
struct in_place_body {
  static constexpr int blocks_together = Moved::turns ? 1 : 2;
  in_place_task<Moved> task;
  template <class Block>
  __device__ void operator()(Block& b) const {
    compact_rows(b, task);
  }
};

template <class Cache, class Moved>
struct swap_body {
  static constexpr int blocks_together = 2;
  swap_task<Cache> task;
  Moved moved;
  template <class Block>
  __device__ void operator()(Block& b) const {
    plan_swaps(b, task, moved);
  }
};

struct lengths_body {
  row_moves kept;
  index_t rows;
  index_t* lengths;
  template <class Block>
  __device__ void operator()(Block& b) const {
    write_lengths(b, kept, rows, lengths);
  }
};

[[nodiscard]] inline row_moves moves_of(const selection& kept) {
  return {.slots = kept.slots.data, .room = kept.slots.size(), .offsets = kept.offsets.data};
}

/// What the host knows of a cache on the device, and of a selection there.
template <cache_view Cache>
[[nodiscard]] status check_known(const Cache& cache, const selection& kept) {
  if (const status s = check_entries(cache); !s.ok()) return s;
  if (kept.slots.data == nullptr || kept.offsets.data == nullptr)
    return {status_code::bad_pointer, "selection", "the selection's slots or offsets are null"};
  if (kept.offsets.size() != cache.shape().rows() + 1)
    return {status_code::bad_shape, "selection", "the selection needs rows + 1 offsets"};
  return {};
}

template <class From, class To>
[[nodiscard]] status check_known_target(const From& from, const To& to, const char* name) {
  if (const status s = check(to, name); !s.ok()) return s;
  if (from.dims() != to.dims())
    return {status_code::bad_shape, name, "source and destination need the same dims per entry"};
  return {};
}

template <class Moved>
[[nodiscard]] status launch_gather(const gpu& on, const cache_shape& shape, const row_moves& moves, const Moved& moved,
                                   bool swaps) {
  const gather_task<Moved> task{shape, moves, moved, shares_of(shape.rows(), moves.room), swaps};
  return launch<gather_threads>(on, task.blocks(), turn_table_bytes(moved), gather_body<Moved>{task});
}

/// A grid has 2^31 - 1 blocks at most.
[[nodiscard]] constexpr status check_blocks(offset_t blocks) {
  if (blocks <= std::int32_t{0x7fffffff}) return {};
  return {status_code::bad_shape, "shape", "more rows and sides than one launch can have"};
}

}  // namespace detail

/// Copies the retained entries of every row of `from` to the front of the same row of `to` (compact/moves.hpp): any
/// layout to any layout, the same element types, on the device. Lengths are not read; those of `to` become
/// `retained_lengths`. The memory that a row spans in the two caches must not overlap, which is not checked; a side
/// array may stay in its own (`side(data, layout)`). Errors: null pointers, disagreeing shapes or dims, a selection
/// without rows + 1 offsets, a refused launch.
template <cache_view From, cache_view To, detail::device_side... Sides>
status gather(const gpu& on, const From& from, const selection& kept, const To& to, const Sides&... sides) {
  static_assert(!cache_with_values<From> || cache_with_values<To>,
                "kvevict: the destination needs values because the source has them");
  if (const status s = detail::check_known(from, kept); !s.ok()) return s;
  const cache_shape shape = from.shape(), target = to.shape();
  if (target.layers != shape.layers || target.seqs != shape.seqs || target.kv_heads != shape.kv_heads)
    return {status_code::bad_shape, "to", "source and destination need the same layers, seqs and kv_heads"};
  if (const status s = detail::check_known_target(from.keys(), to.keys(), "to.keys"); !s.ok()) return s;
  if constexpr (cache_with_values<From>)
    if (const status s = detail::check_known_target(from.values(), to.values(), "to.values"); !s.ok()) return s;
  if (const status s = detail::check_sides(from, sides...); !s.ok()) return s;
  const auto moved = detail::moved_between(from, to, sides...);
  return detail::launch_gather(on, shape, detail::moves_of(kept), moved, false);
}

/// Slides the retained entries of every row to its front, in the cache's own memory on the device (compact/moves.hpp).
/// The lengths are not read and stay the caller's to update (`retained_lengths`). Rows must not share memory. Errors:
/// null pointers, a bad shape, a selection without rows + 1 offsets, a refused launch.
template <cache_view Cache, detail::device_side... Sides>
status compact_in_place(const gpu& on, const Cache& cache, const selection& kept, const Sides&... sides) {
  static_assert(
      !requires { cache.keys().layout.order; },
      "kvevict: in token order a row's front is scattered; swap_fill compacts such a cache");
  if (const status s = detail::check_known(cache, kept); !s.ok()) return s;
  if (const status s = detail::check_sides(cache, sides...); !s.ok()) return s;
  const cache_shape shape = cache.shape();
  const auto moved = detail::moved_within(cache, detail::parts_of(shape.rows()), sides...);
  const detail::in_place_task<std::remove_const_t<decltype(moved)>> task{shape, detail::moves_of(kept), moved};
  if (const status s = detail::check_blocks(task.blocks()); !s.ok()) return s;
  return detail::launch<detail::in_place_threads>(on, task.blocks(), detail::turn_table_bytes(moved),
                                                  detail::in_place_body<std::remove_const_t<decltype(moved)>>{task});
}

/// Bytes of the device that `swap_fill` needs for this selection and these sides; only the extents of `kept` are read.
template <detail::device_side... Sides>
[[nodiscard]] offset_t swap_fill_workspace_bytes(const gpu&, const selection& kept, const Sides&...) {
  carver count;
  detail::swap_memory::take(count, kept.slots.size(), kept.rows(), detail::any_turns<Sides...>);
  return count.bytes();
}

/// Compacts every row with the fewest moves, on the device: retained entries from the back fill the holes of the front
/// (compact/moves.hpp), the same ones as on the CPU. `kept` counts slots in token order; `cache` is the memory itself,
/// whose lengths the device reads. Side arrays move with the entries; `order` becomes that of what is left. The lengths
/// stay the caller's to update (`retained_lengths`). Errors: as of `compact_in_place`, a null order, a small workspace.
template <cache_view Cache, detail::device_side... Sides>
status swap_fill(const gpu& on, const Cache& cache, const token_order& order, const selection& kept,
                 const workspace& memory, const Sides&... sides) {
  if (const status s = detail::check_known(cache, kept); !s.ok()) return s;
  if (const status s = order.check(); !s.ok()) return s;
  if (const status s = detail::check_sides(cache, sides...); !s.ok()) return s;
  if (const status s = detail::check_workspace(memory, swap_fill_workspace_bytes(on, kept, sides...)); !s.ok())
    return s;
  const cache_shape shape = cache.shape();
  carver place(memory.data);
  const auto m = detail::swap_memory::take(place, kept.slots.size(), shape.rows(), detail::any_turns<Sides...>);
  const detail::swap_task<Cache> plan{cache, order, detail::moves_of(kept), m};
  const auto moved = detail::moved_within(cache, 1, sides...);
  using body = detail::swap_body<Cache, std::remove_const_t<decltype(moved)>>;
  if (const status s =
          detail::launch<detail::swap_threads>(on, shape.rows(), detail::plan_swaps_bytes, body{plan, moved});
      !s.ok())
    return s;
  return detail::launch_gather(on, shape, detail::planned(plan.kept, m), moved, true);
}

/// lengths[r] = retained slots of row r, on the device: what the engine's lengths become after a compaction. The number
/// of a row that did not move because the selection had no room for it is left as it is. Errors: null pointers, a
/// refused launch.
inline status retained_lengths(const gpu& on, const selection& kept, index_t* lengths) {
  if (kept.slots.data == nullptr || kept.offsets.data == nullptr)
    return {status_code::bad_pointer, "selection", "the selection's slots or offsets are null"};
  if (kept.rows() < 1) return {status_code::bad_shape, "selection", "the selection needs rows + 1 offsets"};
  if (lengths == nullptr) return {status_code::bad_pointer, "lengths", "the lengths are null"};
  const offset_t blocks = (static_cast<offset_t>(kept.rows()) + detail::lengths_threads - 1) / detail::lengths_threads;
  return detail::launch<detail::lengths_threads>(on, blocks, 0,
                                                 detail::lengths_body{detail::moves_of(kept), kept.rows(), lengths});
}

}  // namespace kvevict
