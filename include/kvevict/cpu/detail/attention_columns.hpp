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

struct column_scratch {
  float* queries;    ///< packed, [heads * rows rounded up to tiles][dims]
  float* keys;       ///< one packed block
  float* entry;      ///< room for packet_size keys, or one query
  float* stored;     ///< exp(s - m), [key block][packed row][tile_keys]
  float* peak;       ///< m, [key block][packed row]
  float* mass;       ///< sum of exp(s - m), then the factor of the block
  float* weight;     ///< [packed row]: row weight, 0 for padding
  float* lse;        ///< [packed row]: natural log-sum-exp, where given
  index_t* visible;  ///< [packed row]: slots that the row sees, 0 for padding

  static column_scratch take(carver& from, const scratch_extent& extent, index_t chunk) {
    const offset_t rows = static_cast<offset_t>(extent.group_size) * ((chunk + tile_rows - 1) / tile_rows * tile_rows);
    const offset_t blocks = (extent.length + tile_keys - 1) / tile_keys;
    column_scratch s{};
    s.queries = from.take<float>(rows * extent.key_dims);
    s.keys = from.take<float>(static_cast<offset_t>(tile_keys) * extent.key_dims);
    s.entry = from.take<float>(static_cast<offset_t>(packet_size) * extent.key_dims);
    s.stored = from.take<float>(blocks * rows * tile_keys);
    s.peak = from.take<float>(blocks * rows);
    s.mass = from.take<float>(blocks * rows);
    s.weight = from.take<float>(rows);
    s.lse = from.take<float>(rows);
    s.visible = from.take<index_t>(rows);
    return s;
  }
};

/// Packs the query rows at positions first .. last of every query_head of the group, scaled so that a product with a
/// key is a logit. Returns the number of packed rows of one query_head.
template <class Attention, class Inputs>
index_t pack_queries(const Attention& s, const Inputs& in, const score::row_context& row, index_t first, index_t last,
                     const column_scratch& to) {
  const auto& queries = in.template get<input_kind::queries>();
  const index_t dims = queries.entries.dims();
  const index_t rows = queries.row_count(in.cache.shape(), row.row);
  const index_t per_head = (last - first + tile_rows - 1) / tile_rows * tile_rows;
  const float scale = 1.0F / std::sqrt(static_cast<float>(dims));
  row_id at = row.row;
  for (index_t h = 0; h < row.group_size; ++h) {
    at.kv_head = row.row.kv_head * row.group_size + h;
    for (index_t r = 0; r < per_head; ++r) {
      const index_t packed_row = h * per_head + r, position = first + r;
      float* packed =
          to.queries + static_cast<offset_t>(packed_row / tile_rows) * tile_rows * dims + packed_row % tile_rows;
      const bool padding = position >= last;
      to.visible[packed_row] = padding ? 0 : position + 1;
      to.weight[packed_row] = padding ? 0.0F : static_cast<float>(s.weight(row.length - 1 - position));
      if (padding) {
        for (index_t d = 0; d < dims; ++d) packed[d * tile_rows] = 0.0F;
        continue;
      }
      const index_t query_row = rows - (row.length - position);
      queries.entries.load(at, query_row, to.entry);
      const float factor = scale * s.gain(position + 1, row.budget);
      for (index_t d = 0; d < dims; ++d) packed[d * tile_rows] = to.entry[d] * factor;
      if constexpr (Inputs::template has<input_kind::log_sum_exp>) {
        const auto& lse = in.template get<input_kind::log_sum_exp>();
        const float value = lse.data[lse.layout.offset(at, query_row, 0)];
        to.lse[packed_row] = lse.base == log_base::e ? value : value * 0.693147180559945309F;
      }
    }
  }
  return per_head;
}

/// Replaces the entries of a packed row's tile from `visible` on, counted from the tile's first key.
inline void mask(packet (&values)[tile_packets], index_t visible, float replacement) {
  alignas(64) float lanes[tile_keys];
  KVEVICT_UNROLL for (index_t p = 0; p < tile_packets; ++p) store(lanes + p * packet_size, values[p]);
  for (index_t j = greatest(0, visible); j < tile_keys; ++j) lanes[j] = replacement;
  KVEVICT_UNROLL for (index_t p = 0; p < tile_packets; ++p) values[p] = load(lanes + p * packet_size);
}

/// columns[first .. first + tile_keys) += sums, as far as the row goes.
inline void add_to_columns(const packet (&sums)[tile_packets], index_t first, index_t length, float* columns) {
  if (first + tile_keys <= length) {
    KVEVICT_UNROLL for (index_t p = 0; p < tile_packets; ++p) {
      float* at = columns + first + p * packet_size;
      store(at, add(load(at), sums[p]));
    }
  } else {
    alignas(64) float lanes[tile_keys];
    KVEVICT_UNROLL for (index_t p = 0; p < tile_packets; ++p) store(lanes + p * packet_size, sums[p]);
    for (index_t j = first; j < length; ++j) columns[j] += lanes[j - first];
  }
}

/// One tile of a row with its log-sum-exp known: sums += weight * exp(s - lse).
inline void add_known(const column_scratch& b, index_t row, index_t first, packet (&s)[tile_packets],
                      packet (&sums)[tile_packets]) {
  const packet lse = broadcast(b.lse[row]), weight = broadcast(b.weight[row]);
  KVEVICT_UNROLL for (index_t p = 0; p < tile_packets; ++p) s[p] = exponential(subtract(s[p], lse));
  if (first + tile_keys > b.visible[row]) mask(s, b.visible[row] - first, 0.0F);
  KVEVICT_UNROLL for (index_t p = 0; p < tile_packets; ++p) sums[p] = multiply_add(weight, s[p], sums[p]);
}

/// One tile of a row: stores exp(s - m), m and the sum.
inline void store_block(const column_scratch& b, offset_t at, index_t row, index_t first, packet (&s)[tile_packets]) {
  const bool partial = first + tile_keys > b.visible[row];
  if (partial) mask(s, b.visible[row] - first, -std::numeric_limits<float>::max());
  packet peak = s[0];
  KVEVICT_UNROLL for (index_t p = 1; p < tile_packets; ++p) peak = maximum(peak, s[p]);
  const float m = largest(peak);
  const packet shift = broadcast(m);
  KVEVICT_UNROLL for (index_t p = 0; p < tile_packets; ++p) s[p] = exponential(subtract(s[p], shift));
  if (partial) mask(s, b.visible[row] - first, 0.0F);
  packet mass = s[0];
  KVEVICT_UNROLL for (index_t p = 1; p < tile_packets; ++p) mass = add(mass, s[p]);
  KVEVICT_UNROLL for (index_t p = 0; p < tile_packets; ++p) store(b.stored + at * tile_keys + p * packet_size, s[p]);
  b.peak[at] = m;
  b.mass[at] = sum(mass);
}

/// out[query_head of the group][slot] += weight * a[i, slot] for the rows at positions first .. last. Never inlined:
/// every policy that scores this way shares one copy, which keeps a program with many policies quick to compile.
template <class Attention, class Inputs>
[[gnu::noinline]] void add_columns(const Attention& s, const Inputs& in, const score::row_context& row, index_t first,
                                   index_t last, float* out, const column_scratch& b) {
  constexpr bool known = Attention::gain_type::plain && Inputs::template has<input_kind::log_sum_exp>;
  const auto& keys = in.cache.keys();
  const index_t dims = keys.dims();
  const index_t per_head = pack_queries(s, in, row, first, last, b);
  const index_t rows = per_head * row.group_size;
  const index_t blocks = (last + tile_keys - 1) / tile_keys;  // no row of the chunk sees beyond `last`

  for (index_t block = 0; block < blocks; ++block) {
    const index_t slot = block * tile_keys;
    pack_keys(keys, row.row, slot, last, b.entry, b.keys);
    packet sums[tile_packets];
    KVEVICT_UNROLL for (index_t p = 0; p < tile_packets; ++p) sums[p] = broadcast(0.0F);
    for (index_t r = 0; r < rows; r += tile_rows) {
      if (known && r % per_head == 0)
        for (auto& x : sums) x = broadcast(0.0F);
      tile t;
      multiply_tile(b.queries + static_cast<offset_t>(r) * dims, b.keys, dims, t);
      for (index_t i = 0; i < tile_rows; ++i) {
        if constexpr (known)
          add_known(b, r + i, slot, t.sums[i], sums);
        else
          store_block(b, static_cast<offset_t>(block) * rows + r + i, r + i, slot, t.sums[i]);
      }
      if (known && (r + tile_rows) % per_head == 0)
        add_to_columns(sums, slot, last, out + static_cast<offset_t>(r / per_head) * row.length);
    }
  }
  if constexpr (known) return;

  for (index_t r = 0; r < rows; ++r) {  // the factor of every block: weight * exp(m - M) / total
    float top = b.peak[r];
    for (index_t block = 1; block < blocks; ++block)
      top = greatest(top, b.peak[static_cast<offset_t>(block) * rows + r]);
    double total = 0;
    for (index_t block = 0; block < blocks; ++block) {
      const offset_t at = static_cast<offset_t>(block) * rows + r;
      b.peak[at] = std::exp(b.peak[at] - top);
      total += static_cast<double>(b.mass[at]) * static_cast<double>(b.peak[at]);
    }
    const auto factor = static_cast<float>(b.weight[r] / (b.visible[r] > 0 ? total : 1.0));
    for (index_t block = 0; block < blocks; ++block) {
      const offset_t at = static_cast<offset_t>(block) * rows + r;
      b.mass[at] = factor * b.peak[at];
    }
  }
  for (index_t block = 0; block < blocks; ++block) {
    for (index_t h = 0; h < row.group_size; ++h) {
      packet sums[tile_packets];
      for (auto& x : sums) x = broadcast(0.0F);
      for (index_t r = h * per_head; r < (h + 1) * per_head; ++r) {
        const offset_t at = static_cast<offset_t>(block) * rows + r;
        const packet factor = broadcast(b.mass[at]);
        KVEVICT_UNROLL for (index_t p = 0; p < tile_packets; ++p) sums[p] =
            multiply_add(factor, load(b.stored + at * tile_keys + p * packet_size), sums[p]);
      }
      add_to_columns(sums, block * tile_keys, last, out + static_cast<offset_t>(h) * row.length);
    }
  }
}

}  // namespace kvevict::detail
