// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/core/status.hpp>
#include <kvevict/view/check.hpp>
#include <kvevict/view/paged.hpp>

/// Giving memory of a paged cache back: after a compaction every row is dense at its front, so the blocks behind its
/// last slot are free. The pool stays the engine's; this only says which blocks return to it.
namespace kvevict {

/// The blocks that every table row holds, [table rows]; the engine's numbers.
struct block_counts {
  index_t* data = nullptr;
};

namespace detail {

/// Blocks that the rows of one table need: those of its longest row. No table has enough for a negative length.
KVEVICT_HOST_DEVICE constexpr index_t blocks_needed(const paged& layout, const cache_shape& shape,
                                                    const row_lengths& lengths, offset_t slack, offset_t table) {
  index_t longest = 0;
  const auto take = [&](offset_t row) {
    const index_t length = lengths[static_cast<index_t>(row)];
    longest = greatest(longest, length < 0 ? most_slots : length);
  };
  if (layout.scope == paged::tables::per_row) {
    take(table);
  } else {
    const bool one_layer = layout.scope == paged::tables::per_layer;
    const offset_t first = one_layer ? table / shape.seqs : 0, last = one_layer ? first + 1 : shape.layers;
    const offset_t seq = one_layer ? table % shape.seqs : table;
    for (offset_t layer = first; layer < last; ++layer)
      for (offset_t head = 0; head < shape.kv_heads; ++head) take((layer * shape.seqs + seq) * shape.kv_heads + head);
  }
  return static_cast<index_t>(
      least<offset_t>(most_slots, (longest + slack + layout.block_size - 1) / layout.block_size));
}

/// Whether the blocks that a table row holds are enough for its slots, and not more than it has room for.
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr bool holds_enough(const paged& layout, const cache_shape& shape,
                                                              const row_lengths& lengths, offset_t table,
                                                              index_t held) {
  return held >= blocks_needed(layout, shape, lengths, 0, table) && held <= layout.max_blocks;
}

/// What can be said without the lengths and the counts, which may lie on a device.
[[nodiscard]] constexpr status check_tables(const paged& layout, const cache_shape& shape, const row_lengths& lengths,
                                            index_t slack, const block_counts& counts) {
  if (const status s = check(shape); !s.ok()) return s;
  if (const status s = check_layout(layout, "layout"); !s.ok()) return s;
  if (lengths.each == nullptr && lengths.all < 0)
    return {status_code::bad_shape, "lengths", "the lengths are null, or the length of all rows is negative"};
  if (slack < 0) return {status_code::bad_option, "slack", "slack must not be negative"};
  if (counts.data == nullptr) return {status_code::bad_pointer, "counts", "the block counts are null"};
  if (layout.scope == paged::tables::per_layer && layout.seqs != shape.seqs)
    return {status_code::bad_shape, "layout", "the layout's seqs are not those of the shape"};
  return {};
}

}  // namespace detail

/// Rows of a block table.
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr offset_t table_rows(const paged& layout, const cache_shape& shape) {
  if (layout.scope == paged::tables::per_seq) return shape.seqs;
  return layout.scope == paged::tables::per_row ? shape.rows() : static_cast<offset_t>(shape.layers) * shape.seqs;
}

/// Shortens every table row to what its rows need at these lengths (after the compaction), with room for `slack` more
/// slots: counts[t] shrinks, and freed[0 .. freed_count) become the ids that it no longer holds, each exactly once, in
/// the order of the tables. A row that holds no more than it needs keeps its blocks. `freed` has room for all of them;
/// where it has not, nothing changes and `status::needed` says how many there are.
constexpr status free_blocks(const paged& layout, const cache_shape& shape, const row_lengths& lengths, index_t slack,
                             const block_counts& counts, const span<index_t>& freed, offset_t& freed_count) {
  if (const status s = detail::check_tables(layout, shape, lengths, slack, counts); !s.ok()) return s;
  const offset_t tables = table_rows(layout, shape);
  offset_t total = 0;
  for (offset_t t = 0; t < tables; ++t) {
    if (!detail::holds_enough(layout, shape, lengths, t, counts.data[t]))
      return {status_code::bad_shape, "counts",
              "a table row holds fewer blocks than its slots need, or too many, or a length is negative"};
    total += greatest(0, counts.data[t] - detail::blocks_needed(layout, shape, lengths, slack, t));
  }
  if (total > freed.size() || (total > 0 && freed.data == nullptr))
    return {status_code::small_output, "freed", "there is less room than there are freed blocks", total};
  freed_count = 0;
  for (offset_t t = 0; t < tables; ++t) {
    const index_t needed = detail::blocks_needed(layout, shape, lengths, slack, t);
    for (index_t b = needed; b < counts.data[t]; ++b)
      freed[freed_count++] = layout.block_table[t * layout.max_blocks + b];
    counts.data[t] = least(counts.data[t], needed);
  }
  return {};
}

}  // namespace kvevict
