// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/detail/warpgroup.hpp>
#include <kvevict/cuda/score/mma_products.hpp>

namespace kvevict::detail {

/// On the tensor cores of sm_90a, which four warps feed at once (detail/warpgroup.hpp). What a lane holds and which
/// words it takes is what mma_products.hpp says, so that all that looks at products is the same. No GPU has run this
/// path: only its emulation on the host has been compared with the CPU.
///
/// - Keys go through registers. While a tile is multiplied, every thread has its words of the next one copied to shared
///   memory, where only it reads them: nothing waits but the thread for its own, and the memory is always busy. There
///   are no tensor maps, because keys may lie in pages, ragged or in another order, which tables of the device say and
///   the host does not know; and as a thread's 16 bytes are what it needs, no shared layout of the keys is to be made.
/// - Queries lie as wgmma wants its columns: word w of a piece of eight dims in the w-th of the four pieces that have
/// 32
///   dims, so that the k of a product are the same dims as in the registers.
/// - A step is multiplied while the one before it is looked at, and the two warpgroups of a block do so by turns.
template <class Element, int Dims>
struct wgmma_products {
  static_assert(Dims % 16 == 0 && sizeof(Element) == 2);
  static constexpr int tiles_for_sums = 4, tiles_for_columns = Dims <= 96 ? 8 : 4;
  static constexpr bool sums_ahead = Dims <= 128, columns_ahead = true;  // registers
  static constexpr index_t columns = Dims <= 128 ? 128 : 64;             // of two steps, or of four
  static constexpr int pieces = Dims / 8;                                ///< of 16 bytes, of a query
  static constexpr int groups = (Dims + 31) / 32;                        ///< of 32 dims, the last may be half
  [[nodiscard]] KVEVICT_HOST_DEVICE static constexpr offset_t shared_bytes(int threads) {
    return static_cast<offset_t>(sizeof(words4)) * (pieces * columns + 4 * groups * threads);
  }

  template <class Block>
  struct on {
    decltype(std::declval<Block&>().template shared<std::uint32_t>(1)) queries;  ///< [pieces][columns][4]
    decltype(std::declval<Block&>().template shared<words4>(1)) ahead;           ///< [4][groups][threads]
    typename Block::template local<mma_rows> keys[2][std::size_t{Dims} / 16];

    KVEVICT_HOST_DEVICE static on take(Block& b) {
      const auto room = b.template shared<std::uint32_t>(4 * pieces * columns);
      on o{room, b.template shared<words4>(4 * groups * b.threads()), {}};
      KVEVICT_UNROLLED for (int m = 0; m < 2; ++m) {
        KVEVICT_UNROLLED for (int f = 0; f < Dims / 16; ++f) o.keys[m][f] = b.template make_local<mma_rows>();
      }
      return o;
    }
    template <class Task>
    KVEVICT_HOST_DEVICE void hold_queries(Block& b, const Task& task, const attention_row& row, index_t first) {
      b.each([&](int t) {  // a warp has 32 dims of eight columns
        KVEVICT_ROLLED for (index_t i = t / warp_threads; i < groups * columns / 8; i += b.threads() / warp_threads) {
          const index_t piece = i % groups * 4 + t % 4, column = i / groups * 8 + t % warp_threads / 4;
          if (piece >= pieces) continue;
          const words4 q = words_of_query<Element>(task, row, first + column, 8 * piece);
          KVEVICT_UNROLLED for (int w = 0; w < 4; ++w) queries.store(t, place_of(piece, w, column), q.x[w]);
        }
      });
      b.wgmma_fence_stores();
    }
    template <class Task>
    KVEVICT_HOST_DEVICE void expect_keys(Block& b, const Task& task, const attention_row& row, index_t first) {
      const auto& from = task.cache.keys();
      b.each([&](int t) {
        KVEVICT_UNROLLED for (int k = 0; k < 4; ++k) {
          const Element* const key = from.at(row.id, least(first + slot_of_thread(t, k), row.length - 1), 0);
          KVEVICT_UNROLLED for (int j = 0; j < groups; ++j) {
            b.copy_ahead(t, ahead, (k * groups + j) * b.threads() + t, key + first_dim_of_thread<Dims>(t, j));
          }
        }
      });
    }
    template <class Task>
    KVEVICT_HOST_DEVICE void hold_keys(Block& b, const Task& task, const attention_row& row, index_t /*first*/,
                                       index_t next) {
      b.copies_done();
      b.each([&](int t) {
        const auto words = [&](int k, int j) { return ahead.load(t, (k * groups + j) * b.threads() + t); };
        to_fragments<Dims>(t, words, keys);
      });
      if (next >= 0) expect_keys(b, task, row, next);
    }
    template <class Task, int Tiles>
    KVEVICT_HOST_DEVICE void multiply(Block& b, const Task&, const attention_row&, index_t, index_t step,
                                      product_sums<Block, Tiles>& sums) {
      start(b, step, sums);
      finish<0>(b, sums);
    }
    template <int Tiles>
    KVEVICT_HOST_DEVICE void start(Block& b, index_t step, product_sums<Block, Tiles>& sums) {
      constexpr std::uint32_t piece = sizeof(words4);
      const std::uint64_t first = wgmma_columns(queries.address(), piece * columns, piece * 8);
      b.wgmma_begin();
      KVEVICT_UNROLLED for (int m = 0; m < 2; ++m) {
        KVEVICT_UNROLLED for (int f = 0; f < Dims / 16; ++f) {
          const auto columns_of_step = further(first, static_cast<std::uint32_t>(2 * f * columns + step));
          b.template wgmma<Element>(sums.x[m], keys[m][f], columns_of_step, f != 0);
        }
      }
      b.wgmma_end();
    }
    template <int Later, int Tiles>
    KVEVICT_HOST_DEVICE void finish(Block& b, product_sums<Block, Tiles>& sums) {
      b.template wgmma_wait<Later>(sums.x[0], sums.x[1]);
    }

   private:
    /// Where word `w` of a piece of a query lies: in the order of `to_fragments`.
    [[nodiscard]] KVEVICT_HOST_DEVICE static index_t place_of(index_t piece, int w, index_t column) {
      const index_t group = piece / 4, of_group = piece % 4;
      const bool half = 32 * group + 32 > Dims;
      const index_t to = 4 * group + (half ? w % 2 : w), word = half ? 2 * of_group + w / 2 : of_group;
      return (to * columns + column) * 4 + word;
    }
  };
};

}  // namespace kvevict::detail
