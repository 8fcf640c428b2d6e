// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <kvevict/cpu/detail/attention_tile.hpp>
#include <kvevict/cpu/score/kernel.hpp>
#include <kvevict/view/inputs.hpp>
#include <limits>

/// Column sums of attention for a chunk of query rows of one kv_head: memory O(keys) times the chunk, never rows x
/// keys of the prompt.
///
/// The weight of a row is known only after its last key, so each block of keys stores exp(s - m), m the maximum of
/// the row in that block, and a second, cheap pass rescales and sums. With the engine's log-sum-exp the weights are
/// known at once and nothing is stored.
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

/// Chunks of a window: about `chunk_target` rows, whole packets of each head, then as many heads as fit. At least one
/// row of one head, so that a workspace can be measured before the inputs are checked; a shorter window never has
/// chunks of more rows, so that the longest row of a call decides what scratch memory it needs.
inline constexpr index_t chunk_target = 128;
[[nodiscard]] inline row_chunk chunk_size(index_t window, index_t group_size) {
  const index_t group = greatest(1, group_size);
  const index_t wanted = greatest(packet_size, chunk_target / group / packet_size * packet_size);
  row_chunk c{.last = least(wanted, greatest(1, window))};
  c.heads = least(group, greatest(1, chunk_target / c.per_head()));
  return c;
}

struct column_scratch {
  float* queries;    ///< packed queries
  float* keys;       ///< one packed block of keys
  float* room;       ///< one key or query
  float* logits;     ///< [block_keys][row]
  float* stored;     ///< exp(s - m), [slot][row]
  float* peak;       ///< m, [key block][row]
  float* mass;       ///< sum of exp(s - m), then the factor of the block, [key block][row]
  float* weight;     ///< [row]: row weight, 0 for padding
  float* lse;        ///< [row]: natural log-sum-exp, where given
  index_t* visible;  ///< [row]: slots that the row sees, 0 for padding

  static column_scratch take(carver& from, const scratch_extent& extent, index_t window) {
    const offset_t rows = chunk_size(window, extent.group_size).rows();
    const offset_t blocks = (extent.length + block_keys - 1) / block_keys;
    const offset_t dims = (extent.key_dims + dim_chunk - 1) / dim_chunk * dim_chunk;
    column_scratch s{};
    s.queries = from.take<float>(rows * extent.key_dims);
    s.keys = from.take<float>(block_keys * dims);
    s.room = from.take<float>(dims);
    s.logits = from.take<float>(block_keys * rows);
    s.stored = from.take<float>(blocks * block_keys * rows);
    s.peak = from.take<float>(blocks * rows);
    s.mass = from.take<float>(blocks * rows);
    s.weight = from.take<float>(rows);
    s.lse = from.take<float>(rows);
    s.visible = from.take<index_t>(rows);
    return s;
  }
};

/// Packs the queries of a chunk, scaled so that a product with a key is a logit.
template <class Attention, class Inputs>
void pack_queries(const Attention& s, const Inputs& in, const score::row_context& row, const row_chunk& chunk,
                  const column_scratch& to) {
  const auto& queries = in.template get<input_kind::queries>();
  const index_t dims = queries.entries.dims(), total = queries.row_count(in.cache.shape(), row.row);
  const index_t rows = chunk.rows(), per_head = chunk.per_head();
  const float scale = 1.0F / std::sqrt(static_cast<float>(dims));
  const row_positions seen_by = positions_of(in, row.row);
  row_id at = row.row;
  for (index_t r = 0; r < rows; ++r) {
    const index_t head = r / per_head, position = chunk.first + r % per_head;
    const bool padding = head >= chunk.heads || position >= chunk.last;
    const index_t query_row = total - (row.seen - position);
    at.kv_head = row.row.kv_head * row.group_size + chunk.head + head;
    to.visible[r] = padding ? 0 : seen_by.before(position + 1, row.length);
    to.weight[r] = padding ? 0.0F : static_cast<float>(s.weight(row.seen - 1 - position));
    to.lse[r] = 0.0F;
    const index_t tile_first = r / tile_rows * tile_rows, width = least(tile_rows, rows - tile_first);
    float* packed = to.queries + static_cast<offset_t>(tile_first) * dims + (r - tile_first);
    if (padding) {
      for (index_t d = 0; d < dims; ++d) packed[d * width] = 0.0F;
      continue;
    }
    queries.entries.load(at, query_row, to.room);
    const float factor = scale * s.gain(position + 1, row.budget);
    for (index_t d = 0; d < dims; ++d) packed[d * width] = to.room[d] * factor;
    if constexpr (Inputs::template has<input_kind::log_sum_exp>) {
      const auto& lse = in.template get<input_kind::log_sum_exp>();
      const float value = lse.data[lse.layout.offset(at, query_row, 0)];
      to.lse[r] = lse.base == log_base::e ? value : value * 0.693147180559945309F;
    }
  }
}

/// Logits of one block of `count` keys.
inline void multiply_block(index_t count, index_t dims, index_t rows, const column_scratch& b) {
  const index_t tiles = (count + tile_keys - 1) / tile_keys;
  for (index_t d = 0; d < dims; d += dim_chunk)
    for (index_t r = 0; r < rows; r += tile_rows) {
      const index_t width = least(tile_rows, rows - r);
      const float* queries = b.queries + static_cast<offset_t>(r) * dims + static_cast<offset_t>(d) * width;
      for (index_t j = 0; j < tiles * tile_keys; j += tile_keys) {
        const float* packed = b.keys + (static_cast<offset_t>(d) / dim_chunk * block_keys + j) * dim_chunk;
        multiply_tile_of(width / packet_size, queries, packed, least(dim_chunk, dims - d), d > 0,
                         b.logits + static_cast<offset_t>(j) * rows + r, rows);
      }
    }
}

/// Replaces what a row does not see in a block; only the blocks at the diagonal have such entries.
inline void mask_block(float* values, index_t slot, index_t count, index_t rows, const index_t* visible,
                       float replacement) {
  for (index_t j = 0; j < count; ++j)
    for (index_t r = 0; r < rows; ++r)
      if (slot + j >= visible[r]) values[static_cast<offset_t>(j) * rows + r] = replacement;
}

/// to[j][r] = exp(from[j][r] - shift[r]); mass[r] = their sum over j, where `mass` is given.
[[gnu::noinline]] inline void exponentials(const float* from, const float* shift, index_t count, index_t rows,
                                           float* to, float* mass) {
  for (index_t r = 0; r < rows; r += packet_size) {
    const packet below = load(shift + r);
    packet total = broadcast(0.0F);
    for (offset_t j = 0; j < count; ++j) {
      const packet e = exponential(subtract(load(from + j * rows + r), below));
      store(to + j * rows + r, e);
      total = add(total, e);
    }
    if (mass != nullptr) store(mass + r, total);
  }
}

/// columns[head][slot + j] += sum over the rows r of that head of factor[r] * values[j][r]
[[gnu::noinline]] inline void add_block(const float* values, const float* factor, index_t count, index_t rows,
                                        const row_chunk& chunk, float* columns, offset_t column_stride) {
  const index_t per_head = chunk.per_head();
  for (offset_t j = 0; j < count; ++j)
    for (index_t h = 0; h < chunk.heads; ++h) {
      const float* v = values + j * rows + h * per_head;
      const float* f = factor + h * per_head;
      float total = 0;
      if (per_head % packet_size == 0) {
        packet part = multiply(load(v), load(f));
        for (index_t r = packet_size; r < per_head; r += packet_size)
          part = multiply_add(load(v + r), load(f + r), part);
        total = sum(part);
      } else {
        for (index_t r = 0; r < per_head; ++r) total += v[r] * f[r];
      }
      columns[h * column_stride + j] += total;
    }
}

/// The maximum of each row over a block.
inline void block_peaks(const float* logits, index_t count, index_t rows, float* peak) {
  for (index_t r = 0; r < rows; r += packet_size) {
    packet m = load(logits + r);
    for (offset_t j = 1; j < count; ++j) m = maximum(m, load(logits + j * rows + r));
    store(peak + r, m);
  }
}

/// mass[block][row] becomes the factor of its stored exponentials: weight * exp(m - M) / total, M the row's maximum.
inline void block_factors(index_t blocks, index_t rows, const column_scratch& b) {
  for (index_t r = 0; r < rows; ++r) {
    float top = b.peak[r];
    for (offset_t block = 1; block < blocks; ++block) top = greatest(top, b.peak[block * rows + r]);
    double total = 0;
    for (offset_t at = r; at < static_cast<offset_t>(blocks) * rows; at += rows) {
      b.peak[at] = std::exp(b.peak[at] - top);
      total += static_cast<double>(b.mass[at]) * static_cast<double>(b.peak[at]);
    }
    const auto factor = static_cast<float>(b.weight[r] / (b.visible[r] > 0 ? total : 1.0));
    for (offset_t at = r; at < static_cast<offset_t>(blocks) * rows; at += rows) b.mass[at] = factor * b.peak[at];
  }
}

/// out[query_head of the group][slot] += weight * a[i, slot] for the rows of a chunk. Never inlined: every policy that
/// scores this way shares one copy, which keeps a program with many policies quick to compile.
template <class Attention, class Inputs>
[[gnu::noinline]] void add_columns(const Attention& s, const Inputs& in, const score::row_context& row,
                                   const row_chunk& chunk, float* out, offset_t column_stride,
                                   const column_scratch& b) {
  constexpr bool known = Attention::gain_type::plain && Inputs::template has<input_kind::log_sum_exp>;
  const auto& keys = in.cache.keys();
  pack_queries(s, in, row, chunk, b);
  const index_t rows = chunk.rows();
  const index_t first = b.visible[0], last = b.visible[chunk.last - chunk.first - 1];  // seen by all rows, by any
  if (last < 1) return;  // every slot that these rows saw has been evicted
  const index_t blocks = (last + block_keys - 1) / block_keys;
  float* columns = out + chunk.head * column_stride;

  for (index_t block = 0; block < blocks; ++block) {
    const index_t slot = block * block_keys, count = least(block_keys, last - slot);
    const bool partial = slot + count > first;
    pack_keys(keys, row.row, slot, last, b.room, b.keys);
    multiply_block(count, keys.dims(), rows, b);
    if constexpr (known) {
      exponentials(b.logits, b.lse, count, rows, b.logits, nullptr);
      if (partial) mask_block(b.logits, slot, count, rows, b.visible, 0.0F);
      add_block(b.logits, b.weight, count, rows, chunk, columns + slot, column_stride);
    } else {
      float* const stored = b.stored + static_cast<offset_t>(slot) * rows;
      float* const peak = b.peak + static_cast<offset_t>(block) * rows;
      // What a row does not see weighs nothing: below any maximum at first, and exactly zero once it is stored. A row
      // that sees none of the block has the mass of the block times exp(-max - M) = 0.
      if (partial) mask_block(b.logits, slot, count, rows, b.visible, -std::numeric_limits<float>::max());
      block_peaks(b.logits, count, rows, peak);
      exponentials(b.logits, peak, count, rows, stored, b.mass + static_cast<offset_t>(block) * rows);
      if (partial) mask_block(stored, slot, count, rows, b.visible, 0.0F);
    }
  }
  if constexpr (known) return;

  block_factors(blocks, rows, b);
  for (index_t block = blocks - 1; block >= 0; --block) {  // the blocks written last are still near
    const index_t slot = block * block_keys;
    add_block(b.stored + static_cast<offset_t>(slot) * rows, b.mass + static_cast<offset_t>(block) * rows,
              least(block_keys, last - slot), rows, chunk, columns + slot, column_stride);
  }
}

}  // namespace kvevict::detail
