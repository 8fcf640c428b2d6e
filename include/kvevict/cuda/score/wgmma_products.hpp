// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/detail/warpgroup.hpp>
#include <kvevict/cuda/score/mma_products.hpp>

namespace kvevict::detail {

/// On the tensor cores of sm_90a, which four warps feed at once (detail/warpgroup.hpp). What a lane holds and which
/// words it takes is what mma_products.hpp says, so that all that looks at products is the same. No GPU has run this
/// path: only its emulation on the host has been compared with the CPU.
///
/// - Keys go through registers. While a tile is multiplied, every warp has its slots of the next one copied to shared
///   memory, where only it reads them: nothing waits but the warp for its own, and the memory is always busy. There are
///   no tensor maps (TMA): the driver would have to make one for every call, and layouts in another order or of the
///   user's own have none. What they would save does not bind: a tile of 128 dims is 16 copies of a thread, and its
///   64 KB on their way are twice what 4.8 TB/s ask of each of 132 multiprocessors for as long as memory takes.
/// - Queries are copied to where wgmma wants them: pieces of eight dims, those of all columns one after another.
/// - A step is multiplied while the one before it is looked at, and the two warpgroups of a block do so by turns.
///
/// Queries may be held in several stages, of which `stage` is multiplied.
template <class Element, int Dims, int Stages = 1>
struct wgmma_products {
  static_assert(Dims % 16 == 0 && sizeof(Element) == 2);
  static constexpr int tiles_for_sums = 4, tiles_for_columns = 4;
  static constexpr bool sums_ahead = Dims <= 128, columns_ahead = sums_ahead;  // registers
  static constexpr index_t columns = Dims <= 128 ? 128 : 64;                   // of two steps, or of four
  static constexpr int pieces = Dims / 8;                                      ///< of 16 bytes, of a query
  static constexpr int stages = Stages;
  static constexpr index_t stage_words = 4 * pieces * columns;
  [[nodiscard]] KVEVICT_HOST_DEVICE static constexpr offset_t shared_bytes(int threads) {
    return static_cast<offset_t>(sizeof(std::uint32_t)) * (Stages * stage_words + 4 * pieces * threads);
  }

  template <class Block>
  struct on {
    static constexpr index_t held = columns;
    using words = decltype(std::declval<Block&>().template shared<std::uint32_t>(1));
    words queries;  ///< [stages][pieces][columns][4]
    words ahead;    ///< [warps][4][pieces][8 slots][4]
    typename Block::template local<mma_rows> keys[2][std::size_t{Dims} / 16];
    index_t stage = 0;

    KVEVICT_HOST_DEVICE static on take(Block& b) {
      const words in_stages = b.template shared<std::uint32_t>(Stages * stage_words);
      on o{in_stages, b.template shared<std::uint32_t>(4 * pieces * b.threads()), {}};
      KVEVICT_UNROLLED for (int m = 0; m < 2; ++m) {
        KVEVICT_UNROLLED for (int f = 0; f < Dims / 16; ++f) o.keys[m][f] = b.template make_local<mma_rows>();
      }
      return o;
    }
    /// Starts copies of the queries of the columns from `first`; once they are done, `wgmma_fence_stores`.
    template <class Task>
    KVEVICT_HOST_DEVICE void expect_queries(Block& b, const Task& task, const attention_row& row, index_t first,
                                            index_t to_stage) {
      const auto& from = task.queries.entries;
      b.each([&](int t) {  // a warp has four pieces of eight columns at once
        KVEVICT_ROLLED for (index_t of = t / warp_threads * 8; of < columns; of += b.threads() / warp_threads * 8) {
          const index_t column = of + t % 8;
          const Element* query = nullptr;
          bool adjacent = dense_dims(from);
          task.with_query(row, first + column, [&](const row_id& head, index_t n) {
            query = from.at(head, n, 0);
            adjacent = adjacent && at_words4(query);
          });
          KVEVICT_ROLLED for (index_t piece = t % warp_threads / 8; piece < pieces; piece += 4) {
            const index_t at = to_stage * stage_words + (piece * columns + column) * 4;
            if (adjacent) {
              b.copy_ahead(t, queries, at, query == nullptr ? from.data : query + 8 * piece, query != nullptr);
            } else {
              const words4 q = words_of_query<Element>(task, row, first + column, 8 * piece);
              KVEVICT_UNROLLED for (int w = 0; w < 4; ++w) queries.store(t, at + w, q.x[w]);
            }
          }
        }
      });
    }
    template <class Task>
    KVEVICT_HOST_DEVICE void hold_queries(Block& b, const Task& task, const attention_row& row, index_t first) {
      expect_queries(b, task, row, first, 0);
      b.copies_done();
      b.wgmma_fence_stores();
    }
    template <class Task>
    KVEVICT_HOST_DEVICE void expect_keys(Block& b, const Task& task, const attention_row& row, index_t first) {
      const auto& from = task.cache.keys();
      b.each([&](int t) {
        KVEVICT_UNROLLED for (int k = 0; k < 4; ++k) {
          const index_t slot = first + t / warp_threads * warp_threads + 8 * k + t % 8;
          const Element* const key = from.at(row.id, least(slot, row.length - 1), 0);
          KVEVICT_UNROLLED for (int piece = 0; piece < pieces; piece += 4) {
            const int own = piece + t % warp_threads / 8;
            if (own < pieces) b.copy_ahead(t, ahead, place_of(t, k, own, t % 8), key + 8 * own);
          }
        }
      });
    }
    template <class Task>
    KVEVICT_HOST_DEVICE void hold_keys(Block& b, const Task& task, const attention_row& row, index_t /*first*/,
                                       index_t next) {
      b.copies_done();
      b.sync_warp();
      b.each([&](int t) {
        const auto word = [&](int k, int piece) {
          return ahead.load(t, place_of(t, k, piece, t % warp_threads / 4) + t % 4);
        };
        KVEVICT_UNROLLED for (int m = 0; m < 2; ++m) {
          KVEVICT_UNROLLED for (int f = 0; f < Dims / 16; ++f) {
            const int p = 2 * f;
            keys[m][f][t] = {{word(2 * m, p), word(2 * m + 1, p), word(2 * m, p + 1), word(2 * m + 1, p + 1)}};
          }
        }
      });
      b.sync_warp();
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
          const auto columns_of_step =
              further(first, static_cast<std::uint32_t>((stage * pieces + 2 * f) * columns + step));
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
    /// Where a piece of the k-th slot lies that the warp has eight of.
    [[nodiscard]] KVEVICT_HOST_DEVICE static index_t place_of(int t, int k, index_t piece, int of_eight) {
      return (((t / warp_threads * 4 + k) * pieces + piece) * 8 + of_eight) * 4;
    }
  };
};

}  // namespace kvevict::detail
