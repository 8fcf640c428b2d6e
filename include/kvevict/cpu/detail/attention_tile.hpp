// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cpu/detail/eigen.hpp>
#include <kvevict/view/entries.hpp>

/// The inner loop of scoring: products of keys with query rows, held in registers.
///
///     packed queries   [tile of rows][dim][rows of the tile]     scaled, so that a product is a logit; vectors run
///                                                                over rows
///     packed keys      [chunk of dims][key][dim_chunk]           one block at a time; each element is broadcast
///     logits           [key][rows]
///
/// Keys need no transposition this way, and what follows (maximum, exponential, mask) is vertical. 6 keys x 4 packets
/// fill 32 registers with 24 sums, 4 queries and a key; 6 x 2 fill 16.
namespace kvevict::detail {

inline constexpr index_t tile_keys = 6;
inline constexpr index_t tile_packets = many_registers ? 4 : 2;
inline constexpr index_t tile_rows = tile_packets * packet_size;
inline constexpr index_t block_keys = 8 * tile_keys;  ///< keys that are scored together
inline constexpr index_t dim_chunk = 128;             ///< dims that a tile runs over; a tile of queries stays in L1

/// logits[j][.] = (or, where `add`, +=) key j . queries, for tile_keys keys and `Packets` packets of rows.
///
/// The loops over the tile must be unrolled for the sums to stay in registers; without being told, GCC does so at -O3
/// only (a factor of four). Never inlined: next to the constants of other loops, sums would be spilled (a factor of
/// two with AVX-512).
template <index_t Packets>
[[gnu::noinline]] void multiply_tile(const float* queries, const float* keys, index_t dims, bool add_to, float* logits,
                                     offset_t rows) {
  constexpr auto width = static_cast<std::size_t>(Packets);
  packet sums[tile_keys][width];
  KVEVICT_UNROLL for (index_t j = 0; j < tile_keys; ++j) KVEVICT_UNROLL for (index_t p = 0; p < Packets; ++p)
      sums[j][p] = add_to ? load(logits + j * rows + p * packet_size) : broadcast(0.0F);
  for (index_t d = 0; d < dims; ++d) {
    packet q[width];
    KVEVICT_UNROLL for (index_t p = 0; p < Packets; ++p) q[p] = load(queries + (d * Packets + p) * packet_size);
    KVEVICT_UNROLL for (index_t j = 0; j < tile_keys; ++j) {
      const packet k = broadcast(keys[j * dim_chunk + d]);
      KVEVICT_UNROLL for (index_t p = 0; p < Packets; ++p) sums[j][p] = multiply_add(k, q[p], sums[j][p]);
    }
  }
  KVEVICT_UNROLL for (index_t j = 0; j < tile_keys; ++j) KVEVICT_UNROLL for (index_t p = 0; p < Packets; ++p)
      store(logits + j * rows + p * packet_size, sums[j][p]);
}

/// The same for a number of packets that is known at run time: the last tile of rows may be narrower.
template <index_t Packets = tile_packets>
void multiply_tile_of(index_t packets, const float* queries, const float* keys, index_t dims, bool add_to,
                      float* logits, offset_t rows) {
  if (packets == Packets)
    multiply_tile<Packets>(queries, keys, dims, add_to, logits, rows);
  else if constexpr (Packets > 1)
    multiply_tile_of<Packets - 1>(packets, queries, keys, dims, add_to, logits, rows);
}

/// Keys first .. first + block_keys of a row as floats, in the packed order; slots from `length` on are zero. `room`
/// holds one key.
template <entry_source Keys>
void pack_keys(const Keys& keys, const row_id& row, index_t first, index_t length, float* room, float* packed) {
  const index_t dims = keys.dims();
  for (index_t j = 0; j < block_keys; ++j) {
    float* to = packed + j * dim_chunk;
    if (first + j < length && dims <= dim_chunk) {
      keys.load(row, first + j, to);
      continue;
    }
    if (first + j < length) keys.load(row, first + j, room);
    for (index_t d = 0; d < dims; ++d)
      to[static_cast<offset_t>(d / dim_chunk) * block_keys * dim_chunk + d % dim_chunk] =
          first + j < length ? room[d] : 0.0F;
  }
}

}  // namespace kvevict::detail
