// SPDX-License-Identifier: MIT
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <kvevict/cpu/detail/eigen.hpp>
#include <kvevict/view/entries.hpp>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

/// The inner loop of scoring: products of keys with query rows, held in registers.
///
///     packed queries   [tile of rows][step][rows of the tile]    vectors run over rows
///     keys             a pointer per key, its elements adjacent; each step of a key is broadcast
///     logits           [key][rows]
///
/// A step is one dim of fp32, or, where the processor has bf16 dot products (AVX512_BF16) and both keys and queries
/// are bf16, two dims at once in one 32-bit lane. Keys need no transposition this way, bf16 ones not even a copy, and
/// what follows (maximum, exponential, mask) is vertical. 6 keys x 4 packets fill 32 registers with 24 sums, 4
/// queries and a key; 6 x 2 fill 16.
namespace kvevict::detail {

inline constexpr index_t tile_keys = 6;
inline constexpr index_t tile_packets = many_registers ? 4 : 2;
inline constexpr index_t tile_rows = tile_packets * packet_size;
inline constexpr index_t block_keys = 8 * tile_keys;  ///< keys that are scored together
inline constexpr index_t step_chunk = 128;            ///< steps that a tile runs over; its queries stay in L1

/// One dim a step.
struct float_steps {
  using element = float;
  using lane = float;
  static constexpr index_t dims = 1;
  using operand = packet;
  static operand load_queries(const lane* q) { return load(q); }
  static operand broadcast_key(const element* key, offset_t step) { return broadcast(key[step]); }
  static packet add_product(const operand& k, const operand& q, const packet& sum) { return multiply_add(k, q, sum); }
};

/// Two bf16 dims a step: products are exact, the two are added to the sum in fp32.
struct bfloat16_steps {
  using element = bfloat16;
  using lane = std::uint32_t;
  static constexpr index_t dims = 2;
#if defined(__AVX512BF16__) && !defined(__AVX512FP16__)
  static constexpr bool available = packet_size == 16;
  using operand = __m512i;
  static operand load_queries(const lane* q) { return _mm512_loadu_si512(q); }
  static operand broadcast_key(const element* key, offset_t step) {
    std::int32_t pair;  // keys are aligned to their elements only
    std::memcpy(&pair, key + dims * step, sizeof pair);
    return _mm512_set1_epi32(pair);
  }
  static packet add_product(const operand& k, const operand& q, const packet& sum) {
    return _mm512_dpbf16_ps(sum, std::bit_cast<__m512bh>(k), std::bit_cast<__m512bh>(q));
  }
#else
  static constexpr bool available = false;
#endif
};

/// logits[j][.] = (or, where `add_to`, +=) key j . queries, times `scale` where that is given, for tile_keys keys and
/// `Packets` packets of rows. `peak`, where given, becomes the greater of itself and every row's logits.
///
/// The loops over the tile must be unrolled for the sums to stay in registers; without being told, GCC does so at -O3
/// only (a factor of four). Never inlined: next to the constants of other loops, sums would be spilled (a factor of
/// two with AVX-512).
template <class Steps, index_t Packets>
[[gnu::noinline]] void multiply_tile(const typename Steps::lane* queries, const typename Steps::element* const* keys,
                                     index_t first, index_t steps, bool add_to, const float* scale, float* peak,
                                     float* logits, offset_t rows) {
  constexpr auto width = static_cast<std::size_t>(Packets);
  packet sums[tile_keys][width];
  const typename Steps::element* key[tile_keys];
  KVEVICT_UNROLL for (index_t j = 0; j < tile_keys; ++j) key[j] = keys[j] + static_cast<offset_t>(first) * Steps::dims;
  KVEVICT_UNROLL for (index_t j = 0; j < tile_keys; ++j) KVEVICT_UNROLL for (index_t p = 0; p < Packets; ++p)
      sums[j][p] = add_to ? load(logits + j * rows + p * packet_size) : broadcast(0.0F);
  for (index_t d = 0; d < steps; ++d) {
    typename Steps::operand q[width];
    KVEVICT_UNROLL for (index_t p = 0; p < Packets; ++p) q[p] =
        Steps::load_queries(queries + (d * Packets + p) * packet_size);
    KVEVICT_UNROLL for (index_t j = 0; j < tile_keys; ++j) {
      const typename Steps::operand k = Steps::broadcast_key(key[j], d);
      KVEVICT_UNROLL for (index_t p = 0; p < Packets; ++p) sums[j][p] = Steps::add_product(k, q[p], sums[j][p]);
    }
  }
  if (scale != nullptr) KVEVICT_UNROLL for (index_t p = 0; p < Packets; ++p) {
      const packet factor = load(scale + p * packet_size);
      KVEVICT_UNROLL for (index_t j = 0; j < tile_keys; ++j) sums[j][p] = multiply(sums[j][p], factor);
    }
  if (peak != nullptr) KVEVICT_UNROLL for (index_t p = 0; p < Packets; ++p) {
      packet top = load(peak + p * packet_size);
      KVEVICT_UNROLL for (index_t j = 0; j < tile_keys; ++j) top = maximum(top, sums[j][p]);
      store(peak + p * packet_size, top);
    }
  KVEVICT_UNROLL for (index_t j = 0; j < tile_keys; ++j) KVEVICT_UNROLL for (index_t p = 0; p < Packets; ++p)
      store(logits + j * rows + p * packet_size, sums[j][p]);
}

/// The same for a number of packets that is known at run time: the last tile of rows may be narrower.
template <class Steps, index_t Packets = tile_packets, class... Arguments>
void multiply_tile_of(index_t packets, const Arguments&... arguments) {
  if (packets == Packets)
    multiply_tile<Steps, Packets>(arguments...);
  else if constexpr (Packets > 1)
    multiply_tile_of<Steps, Packets - 1>(packets, arguments...);
}

/// 2^x to within 2e-7 of its value for x >= -126, and 1 for 0; below, 2^-126 or less. NaN stays NaN.
///
/// x = n + f with n whole, 0 <= f <= 1; 2^f is a minimax polynomial. Half the instructions of the general exponential,
/// fewer with AVX-512.
inline packet exp2(const packet& x) {
  const auto power = [](const packet& f) {
    packet p = broadcast(0x1.e974fap-10F);
    for (const float c : {0x1.277856p-7F, 0x1.c91ce6p-5F, 0x1.ebdb56p-3F, 0x1.62e4bap-1F, 1.0F})
      p = multiply_add(p, f, broadcast(c));
    return p;
  };
#if defined(__AVX512DQ__)  // has both steps as instructions: x - floor(x), and p * 2^floor(x)
  return _mm512_scalef_ps(power(_mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC)), x);
#else
  // Adding 1.5 * 2^23 to x - 1/2 rounds to n and leaves it in the low bits, which become the exponent.
  using lanes [[gnu::vector_size(sizeof(packet))]] = std::int32_t;
  const packet rounder = broadcast(12582912.0F);
  const packet clamped = maximum(x, broadcast(-126.0F));
  const packet shifted = add(subtract(clamped, broadcast(0.5F)), rounder);
  const packet p = power(subtract(clamped, subtract(shifted, rounder)));
  const lanes scaled = std::bit_cast<lanes>(p) + (std::bit_cast<lanes>(shifted) << 23);
  return number_of(x, std::bit_cast<packet>(scaled));
#endif
}

/// sums[i] = sum of the lanes of packet i: a tree of pairwise additions over all of them at once.
template <index_t Count = packet_size>
packet sums_of(const packet* parts) {
  if constexpr (Count == 1)
    return parts[0];
  else
    return add_pairs(sums_of<Count / 2>(parts), sums_of<Count / 2>(parts + Count / 2),
                     std::make_index_sequence<static_cast<std::size_t>(packet_size)>{});
}

}  // namespace kvevict::detail
