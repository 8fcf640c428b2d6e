// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/detail/warpgroup.hpp>
#include <kvevict/cuda/score/mma_products.hpp>

namespace kvevict::detail {

/// On the tensor cores of sm_90a, which four warps feed at once (detail/warpgroup.hpp). What a lane holds and which
/// words it takes is what mma_products.hpp says, so that all that looks at products is the same.
///
/// - Keys go through registers. While a tile is multiplied, every warp has its slots of the next one copied to shared
///   memory, where only it reads them: nothing waits but the warp for its own, and the memory is always busy. There are
///   no tensor maps (TMA): the driver would have to make one for every call, and layouts in another order or of the
///   user's own have none. What they would save does not bind: a tile of 128 dims is 16 copies of a thread, and its
///   64 KB on their way are twice what 4.8 TB/s ask of each of 132 multiprocessors for as long as memory takes.
/// - Queries are copied to where wgmma wants them, 64 dims of all columns one after another.
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
  static constexpr int along = pieces % 8 == 0 ? 8 : 4;                        ///< lanes that copy neighbouring pieces
  static constexpr int stages = Stages;
  static constexpr int pitch = (pieces + 7) / 8 * 8;  ///< of a key or query, in pieces
  static constexpr index_t stage_words = 4 * pitch * columns;
  [[nodiscard]] KVEVICT_HOST_DEVICE static constexpr offset_t shared_bytes(int threads) {
    return static_cast<offset_t>(sizeof(std::uint32_t)) * (Stages * stage_words + 4 * pitch * threads);
  }

  template <class Block>
  struct on {
    static constexpr index_t held = columns;
    using words = decltype(std::declval<Block&>().template shared<std::uint32_t>(1));
    words queries;  ///< [stages][pitch / 8][columns][8][4], see wgmma_place
    words ahead;    ///< [threads][pitch][4], see place_of
    typename Block::template local<mma_rows> keys[2][std::size_t{Dims} / 16];
    index_t stage = 0;

    KVEVICT_HOST_DEVICE static on take(Block& b) {
      const words in_stages = b.template shared<std::uint32_t>(Stages * stage_words);
      on o{in_stages, b.template shared<std::uint32_t>(4 * pitch * b.threads()), {}};
      KVEVICT_UNROLLED for (int m = 0; m < 2; ++m) {
        KVEVICT_UNROLLED for (int f = 0; f < Dims / 16; ++f) o.keys[m][f] = b.template make_local<mma_rows>();
      }
      return o;
    }
    /// Starts copies of the queries of the columns from `first`, which is at `place`; once they are done,
    /// `wgmma_fence_stores`.
    template <class Task>
    KVEVICT_HOST_DEVICE void expect_queries(Block& b, const Task& task, const attention_row& row, index_t first,
                                            const column_place& place, index_t to_stage) {
      const auto& from = task.queries.entries;
      const auto to = [&](index_t column, int piece) {
        return to_stage * stage_words + (piece / 8 * columns * pieces_of_column + wgmma_place(column, piece % 8)) * 4;
      };
      if constexpr (std::is_same_v<std::remove_cvref_t<decltype(from.layout)>, strided>) {
        if (place.i + columns <= row.rows && dense_dims(from)) {  // of one head: equally far apart
          b.each([&](int t) {
            const int own = t % along, queries_at_once = b.threads() / along;
            const index_t n = task.query(row, place.i) + t / along;
            const Element* query = from.at(task.query_head(row, place.head), n, 0) + 8 * own;
            KVEVICT_UNROLLED for (index_t column = t / along; column < columns; column += queries_at_once) {
              KVEVICT_UNROLLED for (int p = 0; p < pieces; p += along) {
                if (p + own < pieces) b.copy_ahead(t, queries, to(column, p + own), query + 8 * p);
              }
              if (column + queries_at_once < columns) query += from.layout.slot * queries_at_once;
            }
          });
          return;
        }
      }
      b.each([&](int t) {
        const int own = t % along, queries_at_once = b.threads() / along;
        column_place at = place;
        at.advance(row, t / along);
        KVEVICT_ROLLED for (index_t column = t / along; column < columns; column += queries_at_once) {
          const Element* query = nullptr;
          bool adjacent = dense_dims(from);
          task.with_query(row, at, [&](const row_id& head, index_t n) {
            query = from.at(head, n, 0);
            adjacent = adjacent && at_words4(query);
          });
          at.advance(row, queries_at_once);
          KVEVICT_UNROLLED for (int p = 0; p < pieces; p += along) {
            const int piece = p + own;
            if (piece >= pieces) continue;
            if (adjacent) {
              b.copy_ahead(t, queries, to(column, piece), query == nullptr ? from.data : query + 8 * piece,
                           query != nullptr);
            } else {
              const words4 q = words_of_query<Element>(task, row, first + column, 8 * piece);
              KVEVICT_UNROLLED for (int w = 0; w < 4; ++w) queries.store(t, to(column, piece) + w, q.x[w]);
            }
          }
        }
      });
    }
    template <class Task>
    KVEVICT_HOST_DEVICE void hold_queries(Block& b, const Task& task, const attention_row& row, index_t first) {
      expect_queries(b, task, row, first, column_place::of(row, first), 0);
      b.copies_done();
      b.wgmma_fence_stores();
    }
    template <class Task>
    KVEVICT_HOST_DEVICE void expect_keys(Block& b, const Task& task, const attention_row& row, index_t first) {
      const auto& from = task.cache.keys();
      constexpr int keys_at_once = warp_threads / along;
      b.each([&](int thread) {
        const int t = b.recomputed(thread);
        const int own = t % along, beside = t % warp_threads / along;
        const index_t first_of_warp = first + t / warp_threads * warp_threads;
        if constexpr (std::is_same_v<std::remove_cvref_t<decltype(from.layout)>, strided>) {
          if (first_of_warp + warp_threads <= row.length) {  // equally far apart, none of them twice
            const Element* key = from.at(row.id, first_of_warp + beside, 0) + 8 * own;
            const int first_place = place_of(t, beside, 0) - 4 * beside, turned = own ^ beside;
            KVEVICT_UNROLLED for (int slot = 0; slot < warp_threads; slot += keys_at_once) {
              KVEVICT_UNROLLED for (int p = 0; p < pieces; p += along) {
                // What place_of(t, slot + beside, p + own) is, as far as possible before it is known who asks.
                const int known = p ^ slot % 8, place = first_place + 4 * (slot * pitch + known / 8 * 8);
                if (p + own < pieces) b.copy_ahead(thread, ahead, place + 4 * (known % 8 ^ turned), key + 8 * p);
              }
              if (slot + keys_at_once < warp_threads) key += from.layout.slot * keys_at_once;
            }
            return;
          }
        }
        constexpr int rounds = least(4, along);
        KVEVICT_ROLLED for (int done = 0; done < warp_threads; done += rounds * keys_at_once) {
          const Element* key[std::size_t{rounds}];
          KVEVICT_UNROLLED for (int i = 0; i < rounds; ++i) {
            const index_t slot = first_of_warp + done + i * keys_at_once + beside;
            key[i] = from.at(row.id, least(slot, row.length - 1), 0) + 8 * own;
          }
          KVEVICT_UNROLLED for (int i = 0; i < rounds; ++i) {
            const int slot = done + i * keys_at_once + beside;
            KVEVICT_UNROLLED for (int p = 0; p < pieces; p += along) {
              if (p + own < pieces) b.copy_ahead(thread, ahead, place_of(t, slot, p + own), key[i] + 8 * p);
            }
          }
        }
      });
    }
    template <class Task>
    KVEVICT_HOST_DEVICE void hold_keys(Block& b, const Task& task, const attention_row& row, index_t /*first*/,
                                       index_t next) {
      b.copies_done();
      b.sync_warp();
      // Eight lanes name eight slots' pieces. The words of `place_of`, as far as they are the lane's alone: of slot
      // 16 m + lane % 16 the piece 2 f + lane / 16 lies at `slot` + 64 pitch m + 32 (f / 4) + (8 (f % 4) ^ `piece`).
      auto slot = b.template make_local<int>(), piece = slot;
      b.each([&](int thread) {
        const int t = b.recomputed(thread), lane = t % warp_threads;
        slot[t] = (t / warp_threads * warp_threads + lane % 16) * pitch * 4;
        piece[t] = 4 * (lane / 16 ^ lane % 8);
      });
      KVEVICT_UNROLLED for (int m = 0; m < 2; ++m) {
        KVEVICT_UNROLLED for (int f = 0; f < Dims / 16; ++f) {
          b.load_rows(keys[m][f], ahead,
                      [&](int t) { return slot[t] + 64 * pitch * m + 32 * (f / 4) + (8 * (f % 4) ^ piece[t]); });
        }
      }
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
      const std::uint64_t first = wgmma_columns(queries.address());
      b.wgmma_begin();
      KVEVICT_UNROLLED for (int m = 0; m < 2; ++m) {
        KVEVICT_UNROLLED for (int f = 0; f < Dims / 16; ++f) {
          const auto columns_of_step =
              further(first, static_cast<std::uint32_t>(
                                 ((stage * (pitch / 8) + f / 4) * columns + step) * pieces_of_column + f % 4 * 2));
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
    /// Where a piece of one of the 32 slots of a warp lies: those that eight slots have of it are in banks of their
    /// own. Two pieces that share 32 bytes of memory share 32 bytes here too: else the device copies them one by one.
    [[nodiscard]] KVEVICT_HOST_DEVICE static index_t place_of(int t, int slot, int piece) {
      return ((t / warp_threads * warp_threads + slot) * pitch + (piece ^ slot % 8)) * 4;
    }
  };
};

}  // namespace kvevict::detail
