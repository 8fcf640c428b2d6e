// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/core/shape.hpp>

namespace kvevict {

/// A cache in blocks of `block_size` slots that lie anywhere in a pool:
///
///     block   = block_table[table row][slot / block_size]
///     offset  = block * .block + layer * .layer + kv_head * .head + (slot % block_size) * .slot + dim
///
/// The table has one row per sequence (`tables::per_seq`, blocks shared by all layers and heads), one per (layer,
/// sequence) (`tables::per_layer`), or one per (layer, sequence, kv_head) (`tables::per_row`, every head with its own
/// blocks; then .layer and .head are usually 0). Strides are in elements, so both orders inside a block are presets and
/// others are possible.
struct paged {
  enum class tables { per_seq, per_layer, per_row };

  const index_t* block_table = nullptr;  ///< [table rows][max_blocks]
  index_t max_blocks = 0;                ///< room of a table row, in blocks
  index_t block_size = 0;                ///< slots of a block
  tables scope = tables::per_seq;
  index_t seqs = 1;  ///< of the call; read where tables are per layer
  offset_t block = 0;
  offset_t layer = 0;
  offset_t head = 0;
  offset_t slot = 0;

  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr offset_t offset(const row_id& row, index_t s, index_t d) const {
    const index_t id = block_table[table_row(row) * max_blocks + s / block_size];
    return id * block + row.layer * layer + row.kv_head * head + (s % block_size) * slot + d;
  }
  /// Which row of the block table a row of the cache uses.
  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr offset_t table_row(const row_id& row) const {
    if (scope == tables::per_seq) return row.seq;
    return scope == tables::per_row ? row.index : static_cast<offset_t>(row.layer) * seqs + row.seq;
  }
  /// Whether the table names a block for each of these slots: a negative number is none.
  [[nodiscard]] constexpr bool holds(const row_id& row, index_t first, index_t last) const {
    for (index_t b = first / block_size; b < (static_cast<offset_t>(last) + block_size - 1) / block_size; ++b)
      if (block_table[table_row(row) * max_blocks + b] < 0) return false;
    return true;
  }
  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr offset_t dim_stride() const { return 1; }
  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr offset_t capacity(const row_id&) const {
    return static_cast<offset_t>(max_blocks) * block_size;
  }
};

/// A pool per layer, [layers][blocks][block_size][heads][dims]; `pool_blocks` blocks in each layer's pool.
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr paged paged_nhd(const index_t* block_table, index_t max_blocks,
                                                            index_t block_size, index_t heads, index_t dims,
                                                            index_t pool_blocks) {
  paged p{.block_table = block_table, .max_blocks = max_blocks, .block_size = block_size};
  p.head = dims;
  p.slot = static_cast<offset_t>(dims) * heads;
  p.block = p.slot * block_size;
  p.layer = p.block * pool_blocks;
  return p;
}

/// The same with the heads outside: [layers][blocks][heads][block_size][dims].
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr paged paged_hnd(const index_t* block_table, index_t max_blocks,
                                                            index_t block_size, index_t heads, index_t dims,
                                                            index_t pool_blocks) {
  paged p{.block_table = block_table, .max_blocks = max_blocks, .block_size = block_size};
  p.slot = dims;
  p.head = static_cast<offset_t>(dims) * block_size;
  p.block = p.head * heads;
  p.layer = p.block * pool_blocks;
  return p;
}

/// One pool for all layers, [blocks][block_size][heads][dims], and a block table per (layer, sequence): layers of
/// different length, the same slots for the kv_heads of one.
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr paged paged_per_layer(const index_t* block_table, index_t max_blocks,
                                                                  index_t block_size, index_t heads, index_t dims,
                                                                  index_t seqs) {
  paged p{.block_table = block_table, .max_blocks = max_blocks, .block_size = block_size};
  p.scope = paged::tables::per_layer;
  p.seqs = seqs;
  p.head = dims;
  p.slot = static_cast<offset_t>(dims) * heads;
  p.block = p.slot * block_size;
  return p;
}

/// One pool for all rows, [blocks][block_size][dims], and a block table per (layer, sequence, kv_head): what
/// heads of different length need if their memory is really to be freed.
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr paged paged_per_row(const index_t* block_table, index_t max_blocks,
                                                                index_t block_size, index_t dims) {
  paged p{.block_table = block_table, .max_blocks = max_blocks, .block_size = block_size};
  p.scope = paged::tables::per_row;
  p.slot = dims;
  p.block = static_cast<offset_t>(dims) * block_size;
  return p;
}

}  // namespace kvevict
