// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <cstring>
#include <kvevict/cpu/detail/attention_tile.hpp>
#include <kvevict/cpu/detail/entry.hpp>
#include <kvevict/cpu/detail/prefetch.hpp>
#include <kvevict/cpu/score/kernel.hpp>
#include <kvevict/view/inputs.hpp>

/// What the tiles of scoring work on: chunks of query rows, packed, and pointers to blocks of keys.
namespace kvevict::detail {

/// Which rows are scored together: positions first .. last of the query_heads `head` .. `head + heads` of a group.
struct row_chunk {
  index_t first = 0, last = 0;
  index_t head = 0, heads = 0;

  /// Rows of one head: whole packets, so that a head's sum is a sum of packets; a few rows are packed without gaps.
  [[nodiscard]] index_t per_head() const {
    const index_t rows = last - first;
    return 2 * rows > packet_size ? (rows + packet_size - 1) / packet_size * packet_size : rows;
  }
  [[nodiscard]] index_t rows() const { return (heads * per_head() + packet_size - 1) / packet_size * packet_size; }
};

/// Rows of a chunk at most. Where each row's exponentials are stored until its sum is known, half as many: what is
/// stored is then more likely still near.
[[nodiscard]] constexpr index_t most_rows(bool stored) { return stored ? 64 : 128; }

/// Chunks of a window: as many rows of one head as there may be, whole packets, then as many heads as fit. At least one
/// row of one head, so that a workspace can be measured before the inputs are checked.
[[nodiscard]] inline row_chunk chunk_size(index_t window, index_t group_size, bool stored) {
  row_chunk c{.last = least(most_rows(stored), greatest(1, window))};
  c.heads = least(greatest(1, group_size), most_rows(stored) / c.per_head());
  return c;
}

/// Rows that a chunk of this window, or of any shorter one, has at most.
[[nodiscard]] inline index_t scratch_rows(index_t window, index_t group_size, bool stored) {
  const index_t most = most_rows(stored), rows = least(most, greatest(1, window));
  const index_t packets = (rows + packet_size - 1) / packet_size;
  return least(most, packets * packet_size * least(most, greatest(1, group_size)));
}

struct column_scratch {
  float* queries;    ///< packed queries
  float* keys;       ///< [block_keys][dims]: one block of keys that must be converted
  float* room;       ///< one query
  float* logits;     ///< [block_keys][row], in units of log 2
  float* stored;     ///< 2^(s - m), [slot][row]; like the next two only where no log-sum-exp is known
  float* peak;       ///< m, [key block][row]
  float* mass;       ///< sum of 2^(s - m), then the factor of the block, [key block][row]
  float* scale;      ///< [row]: what makes a product a logit
  float* weight;     ///< [row]: row weight, 0 for padding
  float* lse;        ///< [row]: binary log-sum-exp, where given
  index_t* visible;  ///< [row]: slots that the row sees, 0 for padding

  static column_scratch take(carver& from, const scratch_extent& extent, index_t window, bool stored) {
    const offset_t rows = scratch_rows(window, extent.group_size, stored);
    const offset_t blocks = stored ? (extent.length + block_keys - 1) / block_keys : 0;
    column_scratch s{};
    s.queries = from.take<float>(rows * extent.key_dims);
    s.keys = from.take<float>(static_cast<offset_t>(block_keys) * extent.key_dims);
    s.room = from.take<float>(extent.key_dims);
    s.logits = from.take<float>(block_keys * rows);
    s.stored = from.take<float>(blocks * block_keys * rows);
    s.peak = from.take<float>(blocks * rows);
    s.mass = from.take<float>(blocks * rows);
    s.scale = from.take<float>(rows);
    s.weight = from.take<float>(rows);
    s.lse = from.take<float>(rows);
    s.visible = from.take<index_t>(rows);
    return s;
  }
};

/// Packs the queries of a chunk, and says for each row what it sees, weighs, and how its products are scaled.
template <class Steps, class Attention, class Inputs>
void pack_queries(const Attention& s, const Inputs& in, const score::row_context& row, const row_chunk& chunk,
                  const column_scratch& to) {
  using lane = typename Steps::lane;
  const auto& queries = in.template get<input_kind::queries>();
  const index_t dims = queries.entries.dims(), total = queries.row_count(in.cache.shape(), row.row);
  const index_t rows = chunk.rows(), per_head = chunk.per_head(), steps = dims / Steps::dims;
  constexpr float log2_of_e = 1.44269504088896341F;
  const float scale = log2_of_e / std::sqrt(static_cast<float>(dims));
  const row_positions seen_by = positions_of(in, row.row);
  row_id at = row.row;
  for (index_t r = 0; r < rows; ++r) {
    const index_t head = r / per_head, position = chunk.first + r % per_head;
    const bool padding = head >= chunk.heads || position >= chunk.last;
    const index_t query_row = total - (row.seen - position);
    at.kv_head = row.row.kv_head * row.group_size + chunk.head + head;
    to.visible[r] = padding ? 0 : seen_by.before(position + 1, row.length);
    to.weight[r] = padding ? 0.0F : static_cast<float>(s.weight(row.seen - 1 - position));
    to.scale[r] = padding ? 0.0F : scale * s.gain(position + 1, row.budget);
    to.lse[r] = 0.0F;
    const index_t tile_first = r / tile_rows * tile_rows, width = least(tile_rows, rows - tile_first);
    lane* packed = reinterpret_cast<lane*>(to.queries) + static_cast<offset_t>(tile_first) * steps + (r - tile_first);
    if (padding) {
      for (index_t d = 0; d < steps; ++d) packed[d * width] = lane{};
      continue;
    }
    load_entry(queries.entries, at, query_row, reinterpret_cast<typename Steps::element*>(to.room));
    const auto* bytes = reinterpret_cast<const std::byte*>(to.room);  // a lane may be two elements
    for (index_t d = 0; d < steps; ++d, bytes += sizeof(lane)) std::memcpy(packed + d * width, bytes, sizeof(lane));
    if constexpr (Inputs::template has<input_kind::log_sum_exp>) {
      const auto& lse = in.template get<input_kind::log_sum_exp>();
      const float value = lse.data[lse.layout.offset(at, query_row, 0)];
      to.lse[r] = lse.base == log_base::two ? value : value * log2_of_e;
    }
  }
}

/// Pointers to the keys first .. first + block_keys of a row; those from `length` on repeat the last one, which changes
/// no maximum, and nothing reads what else comes of them. Keys of the elements that the steps want, close together, are
/// read where they are, others brought into that form first: the products, and so the bits of the scores, are those of
/// the elements, not of the layout.
template <class Steps, class Keys>
void find_keys(const Keys& keys, const row_id& row, index_t first, index_t length, float* converted,
               const typename Steps::element** found) {
  using element = typename Steps::element;
  const index_t dims = keys.dims();
  const index_t count = least(block_keys, length - first);
  for (index_t j = 0; j < count; ++j)
    found[j] = entry_as(keys, row, first + j, reinterpret_cast<element*>(converted) + static_cast<offset_t>(j) * dims);
  for (index_t j = count; j < block_keys; ++j) found[j] = found[count - 1];
}

/// Asks the memory for the keys first .. first + tile_keys. The processor does not foresee that the next block is
/// wanted while this one is multiplied (up to a sixth of the time of scoring).
template <class Keys>
[[gnu::always_inline]] inline void prefetch_keys(const Keys& keys, const row_id& row, index_t first, index_t length) {
  for (index_t slot = first; slot < least(first + tile_keys, length); ++slot) prefetch_entry<2>(keys, row, slot);
}

}  // namespace kvevict::detail
