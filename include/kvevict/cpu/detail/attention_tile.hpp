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
inline void multiply_tile(const float* queries, const float* keys, index_t dims, tile& out) {
  packet sums[tile_rows][tile_packets];
  for (auto& row : sums)
    for (auto& s : row) s = broadcast(0.0F);
  for (index_t d = 0; d < dims; ++d) {
    packet k[tile_packets];
    for (index_t p = 0; p < tile_packets; ++p) k[p] = load(keys + d * tile_keys + p * packet_size);
#pragma GCC unroll 8
    for (index_t r = 0; r < tile_rows; ++r) {
      const packet q = broadcast(queries[d * tile_rows + r]);
      for (index_t p = 0; p < tile_packets; ++p) sums[r][p] = multiply_add(q, k[p], sums[r][p]);
    }
  }
  for (index_t r = 0; r < tile_rows; ++r)
    for (index_t p = 0; p < tile_packets; ++p) out.sums[r][p] = sums[r][p];
}

/// Packs keys first .. first + tile_keys of a row; slots from `length` on become zero. `entry` is room for one.
template <entry_source Keys>
void pack_keys(const Keys& keys, const row_id& row, index_t first, index_t length, float* entry, float* packed) {
  const index_t dims = keys.dims();
  for (index_t j = 0; j < tile_keys; ++j) {
    if (first + j < length) {
      keys.load(row, first + j, entry);
      for (index_t d = 0; d < dims; ++d) packed[d * tile_keys + j] = entry[d];
    } else {
      for (index_t d = 0; d < dims; ++d) packed[d * tile_keys + j] = 0.0F;
    }
  }
}

}  // namespace kvevict::detail
