// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/compact/blocks.hpp>
#include <kvevict/cuda/detail/block.hpp>

/// Which blocks of a paged cache are free, in two kernels: the ids are listed while all still say what they held, then
/// every table row says what it holds now. One source for the device and for tests (detail/block.hpp).
namespace kvevict::detail {

/// What the kernels work on. All memory is the device's.
struct blocks_task {
  paged layout;
  cache_shape shape;
  row_lengths lengths;
  index_t slack = 0;
  index_t* counts = nullptr;  ///< [table rows]
  index_t* freed = nullptr;   ///< [room]
  offset_t room = 0;
  offset_t* freed_count = nullptr;

  [[nodiscard]] KVEVICT_HOST_DEVICE offset_t tables() const { return table_rows(layout, shape); }
  /// Blocks of a table row that nobody needs; none where it holds fewer than its slots need, or more than it can.
  [[nodiscard]] KVEVICT_HOST_DEVICE index_t spare(offset_t table, index_t held) const {
    if (!holds_enough(layout, shape, lengths, table, held)) return 0;
    return greatest(0, held - blocks_needed(layout, shape, lengths, slack, table));
  }
};

/// Shared memory of these kernels in bytes.
inline constexpr offset_t free_blocks_bytes = warp_threads * sizeof(offset_t);

/// The first kernel, a block per table row: its spare blocks, behind those of all rows before it. What has no room is
/// not freed; rows come in order, so from the first of these on no other row frees a block either.
template <class Block>
KVEVICT_HOST_DEVICE void list_freed(Block& b, const blocks_task& task) {
  const auto sums = b.template shared<offset_t>(warp_threads);
  const index_t table = b.index();
  auto own = b.template make_local<offset_t>(), before = own;
  auto held = b.template make_local<index_t>(), next = held;
  b.each([&](int t) {
    own[t] = 0;
    KVEVICT_ROLLED for (offset_t r = t; r < table; r += b.threads()) own[t] +=
        task.spare(r, b.template load<index_t>(t, task.counts + r));
    held[t] = b.template load<index_t>(t, task.counts + table);
    next[t] = table + 1 < task.tables() ? b.template load<index_t>(t, task.counts + table + 1) : 0;
  });
  const offset_t first = exclusive_sums<offset_t>(b, own, before, sums);
  const index_t count = task.spare(table, b.uniform(held)), from = b.uniform(held) - count;
  const bool fits = first + count <= task.room;
  const bool last =
      table + 1 == task.tables() || (fits && first + count + task.spare(table + 1, b.uniform(next)) > task.room);
  b.each([&](int t) {
    KVEVICT_ROLLED for (index_t i = t; fits && i < count; i += b.threads()) b.store(
        t, task.freed + first + i, task.layout.block_table[table * offset_t{task.layout.max_blocks} + from + i]);
    if (t == 0 && fits && last) b.store(t, task.freed_count, first + count);
    if (t == 0 && !fits && table == 0) b.store(t, task.freed_count, offset_t{0});
  });
}

/// The second kernel, one block: counts[t] is what table row t still holds.
template <class Block>
KVEVICT_HOST_DEVICE void shorten_tables(Block& b, const blocks_task& task) {
  const auto sums = b.template shared<offset_t>(warp_threads);
  auto held = b.template make_local<index_t>();
  auto count = b.template make_local<offset_t>(), before = count;
  offset_t first = 0;
  KVEVICT_ROLLED for (offset_t chunk = 0; chunk < task.tables(); chunk += b.threads()) {
    b.each([&](int t) {
      const offset_t table = chunk + t;
      count[t] = 0;
      if (table >= task.tables()) return;
      held[t] = b.template load<index_t>(t, task.counts + table);
      count[t] = task.spare(table, held[t]);
    });
    const offset_t more = exclusive_sums<offset_t>(b, count, before, sums);
    b.each([&](int t) {
      const bool fits = first + before[t] + count[t] <= task.room;
      if (fits && count[t] > 0) b.store(t, task.counts + chunk + t, held[t] - static_cast<index_t>(count[t]));
    });
    first += more;
  }
}

}  // namespace kvevict::detail
