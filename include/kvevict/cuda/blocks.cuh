// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/compact/blocks.hpp>
#include <kvevict/cuda/detail/launch.cuh>

namespace kvevict {

namespace detail {

inline constexpr int list_threads = 256, shorten_threads = 1024;

struct list_body {
  blocks_task task;
  template <class Block>
  __device__ void operator()(Block& b) const {
    list_freed(b, task);
  }
};
struct shorten_body {
  blocks_task task;
  template <class Block>
  __device__ void operator()(Block& b) const {
    shorten_tables(b, task);
  }
};

}  // namespace detail

/// Gives blocks of a paged cache back (compact/blocks.hpp), on the device and in two launches: the ids that the CPU
/// lists, each exactly once, in its order. Tables, lengths, counts, the list and its number are the device's memory.
///
/// @code{.cu}
/// status s = retained_lengths(gpu{stream}, kept, lengths);
/// if (s.ok()) s = free_blocks(gpu{stream}, layout, shape, lengths, 0, {held}, {freed, room}, freed_count);
/// @endcode
///
/// What the host cannot see is not refused: a table row that holds fewer blocks than its slots need keeps what it has,
/// and blocks for which `freed` has no room stay with their rows, whole rows from the first on that does not fit, so
/// that a later call frees them. table_rows(layout, shape) * max_blocks ids are always enough. Errors: null pointers, a
/// bad shape or layout, a negative slack, a refused launch.
inline status free_blocks(const gpu& on, const paged& layout, const cache_shape& shape, const row_lengths& lengths,
                          index_t slack, const block_counts& counts, const span<index_t>& freed,
                          offset_t* freed_count) {
  if (const status s = detail::check_tables(layout, shape, lengths, slack, counts); !s.ok()) return s;
  if (freed.data == nullptr && freed.size() > 0)
    return {status_code::bad_pointer, "freed", "the freed blocks are null"};
  if (freed_count == nullptr) return {status_code::bad_pointer, "freed_count", "the number of freed blocks is null"};
  const detail::blocks_task task{layout, shape, lengths, slack, counts.data, freed.data, freed.size(), freed_count};
  const status s =
      detail::launch<detail::list_threads>(on, task.tables(), detail::free_blocks_bytes, detail::list_body{task});
  if (!s.ok()) return s;
  return detail::launch<detail::shorten_threads>(on, 1, detail::free_blocks_bytes, detail::shorten_body{task});
}

}  // namespace kvevict
