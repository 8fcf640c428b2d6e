// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cpu/detail/eigen.hpp>
#include <kvevict/view/entries.hpp>

/// The inner loop of scoring: products of `tile_rows` queries with `tile_keys` keys, held in registers.
///
///     packed queries  [block of tile_rows][dim][tile_rows]      scaled, so that a product is a logit
///     packed keys     [dim][tile_keys]                          one block at a time, in the first-level cache
///
/// 4 x 3 packets fill sixteen registers (twelve sums, three keys, one query); 8 x 3 fill thirty-two.
namespace kvevict::detail {

inline constexpr index_t tile_rows = many_registers ? 8 : 4;
inline constexpr index_t tile_packets = 3;
inline constexpr index_t tile_keys = tile_packets * packet_size;

struct tile {
  packet sums[tile_rows][tile_packets];
};

/// sums[r][.] = packed query r . packed keys
///
/// The loops over the tile must be unrolled for the sums to stay in registers; without being told, GCC does so at -O3
/// only (a factor of four).
inline void multiply_tile(const float* queries, const float* keys, index_t dims, tile& out) {
  packet sums[tile_rows][tile_packets];
  KVEVICT_UNROLL for (index_t r = 0; r < tile_rows; ++r) KVEVICT_UNROLL for (index_t p = 0; p < tile_packets; ++p)
      sums[r][p] = broadcast(0.0F);
  for (index_t d = 0; d < dims; ++d) {
    packet k[tile_packets];
    KVEVICT_UNROLL for (index_t p = 0; p < tile_packets; ++p) k[p] = load(keys + d * tile_keys + p * packet_size);
    KVEVICT_UNROLL for (index_t r = 0; r < tile_rows; ++r) {
      const packet q = broadcast(queries[d * tile_rows + r]);
      KVEVICT_UNROLL for (index_t p = 0; p < tile_packets; ++p) sums[r][p] = multiply_add(q, k[p], sums[r][p]);
    }
  }
  KVEVICT_UNROLL for (index_t r = 0; r < tile_rows; ++r) KVEVICT_UNROLL for (index_t p = 0; p < tile_packets; ++p)
      out.sums[r][p] = sums[r][p];
}

/// Packs keys first .. first + tile_keys of a row; slots from `length` on become zero. `loaded` is room for
/// packet_size keys.
template <entry_source Keys>
void pack_keys(const Keys& keys, const row_id& row, index_t first, index_t length, float* loaded, float* packed) {
  const index_t dims = keys.dims();
  for (index_t p = 0; p < tile_keys; p += packet_size) {
    for (index_t j = 0; j < packet_size; ++j) {
      float* key = loaded + j * static_cast<offset_t>(dims);
      if (first + p + j < length)
        keys.load(row, first + p + j, key);
      else
        for (index_t d = 0; d < dims; ++d) key[d] = 0.0F;
    }
    index_t d = 0;
    for (; d + packet_size <= dims; d += packet_size)
      transpose(loaded + d, dims, packed + d * tile_keys + p, tile_keys);
    for (; d < dims; ++d)
      for (index_t j = 0; j < packet_size; ++j)
        packed[d * tile_keys + p + j] = loaded[j * static_cast<offset_t>(dims) + d];
  }
}

}  // namespace kvevict::detail
