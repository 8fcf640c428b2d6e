// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/detail/entry_elements.hpp>
#include <kvevict/cuda/score/products.hpp>

namespace kvevict::detail {

/// For whatever reads as numbers: any element, reader, layout and width. In fp32; but on tensor cores, with exact
/// products, where keys are plain halves or bfloat16 and the queries that are held turn out to be numbers of 16 bits
/// too, as those are that a decode state remembers as floats.
///
/// The queries lie in shared memory four dims at a time, every query 64 bytes further in the banks than the one before,
/// and the fours of each pair of queries in an order of its own: so neither the lanes that want dims of a query each,
/// on tensor cores, nor those that want the same dims of other queries meet in a bank.
template <int Tiles = 4>
struct general_products {
  static constexpr int tiles_for_sums = 2, tiles_for_columns = Tiles;
  static constexpr bool sums_ahead = false, columns_ahead = false;
  static constexpr index_t columns = 128;
  static constexpr index_t dims_at_once = 128, dims_of_step = 16;
  static constexpr index_t most_columns = tiles_for_columns * tile_columns;
  static constexpr index_t pitch = (dims_at_once + dims_of_step) / 4;

  [[nodiscard]] KVEVICT_HOST_DEVICE static constexpr offset_t shared_bytes(int threads) {
    const offset_t warps = threads / warp_threads;
    return most_columns * pitch * static_cast<offset_t>(sizeof(four_floats)) + (4 * warps + 15) / 16 * 16;
  }
  template <class Keys>
  static constexpr bool short_keys = plain_elements<Keys, half> || plain_elements<Keys, bfloat16>;

  template <class Block>
  struct on {
    decltype(std::declval<Block&>().template shared<four_floats>(1)) queries;
    decltype(std::declval<Block&>().template shared<std::uint32_t>(1)) of_warps;  ///< whose queries are longer
    index_t first_slot = 0;

    KVEVICT_HOST_DEVICE static on take(Block& b) {
      const auto queries = b.template shared<four_floats>(most_columns * pitch);
      return {queries, b.template shared<std::uint32_t>(b.threads() / warp_threads)};
    }
    template <class Task>
    KVEVICT_HOST_DEVICE void hold_queries(Block&, const Task&, const attention_row&, index_t) {}
    template <class Task>
    KVEVICT_HOST_DEVICE void expect_keys(Block&, const Task&, const attention_row&, index_t) {}
    template <class Task>
    KVEVICT_HOST_DEVICE void hold_keys(Block&, const Task&, const attention_row&, index_t first, index_t /*next*/) {
      first_slot = first;
    }
    template <class Task, int Now>
    KVEVICT_HOST_DEVICE void multiply(Block& b, const Task& task, const attention_row& row, index_t first, index_t step,
                                      product_sums<Block, Now>& sums) {
      const auto& keys = task.cache.keys();
      b.each([&](int t) { sums.clear(t); });
      KVEVICT_ROLLED for (index_t from = 0; from < keys.dims(); from += dims_at_once) {
        const index_t some = least(dims_at_once, keys.dims() - from);
        const bool all_short = hold<Now * tile_columns>(b, task, row, first + step, from, some);
        if constexpr (short_keys<std::remove_cvref_t<decltype(keys)>>) {
          if (all_short) {
            add_short(b, keys, row, from, some, sums);
            continue;
          }
        }
        b.each([&](int t) { add(t, keys, row, from, some, sums); });
      }
    }

   private:
    /// Where four dims of a query lie.
    [[nodiscard]] KVEVICT_HOST_DEVICE static constexpr index_t place(index_t column, index_t fourth) {
      return column * pitch + (fourth ^ (column / 2 % 4));
    }
    [[nodiscard]] KVEVICT_HOST_DEVICE index_t slot_of(int t, int k, const attention_row& row) const {
      return least(first_slot + slot_of_thread(t, k), row.length - 1);
    }
    /// Holds `some` dims from `from` of `Columns` queries, and zeros behind them; whether a tf32 has place for all.
    template <index_t Columns, class Task>
    [[nodiscard]] KVEVICT_HOST_DEVICE bool hold(Block& b, const Task& task, const attention_row& row, index_t first,
                                                index_t from, index_t some) {
      using entries = std::remove_cvref_t<decltype(task.queries.entries)>;
      const index_t fours = (some + dims_of_step - 1) / dims_of_step * (dims_of_step / 4);
      auto longer = b.template make_local<bool>();
      b.sync();
      b.each([&](int t) {
        longer[t] = false;
        KVEVICT_ROLLED for (index_t i = t; i < Columns * fours; i += b.threads()) {
          const index_t column = i / fours, d = i % fours * 4;
          four_floats q{};
          task.with_query(row, first + column, [&](const row_id& head, index_t n) {
            q = four_dims(entry_elements<entries>{task.queries.entries, head, n}, from + d, from + some);
          });
          KVEVICT_UNROLLED for (int e = 0; e < 4; ++e) longer[t] = longer[t] || !fits_tf32(q.x[e]);
          queries.store(t, place(column, d / 4), q);
        }
      });
      auto mask = b.ballot(longer);
      b.each([&](int t) {
        if (t % warp_threads == 0) of_warps.store(t, t / warp_threads, mask[t]);
      });
      b.sync();
      b.each([&](int t) {
        mask[t] = 0;
        KVEVICT_ROLLED for (int w = 0; w < b.threads() / warp_threads; ++w) mask[t] |= of_warps.load(t, w);
      });
      return b.uniform(mask) == 0;
    }
    template <class Keys, int Now>
    KVEVICT_HOST_DEVICE void add(int t, const Keys& keys, const attention_row& row, index_t from, index_t some,
                                 product_sums<Block, Now>& sums) const {
      KVEVICT_ROLLED for (index_t d = 0; d < some; d += 4) {
        four_floats key[4];
        KVEVICT_UNROLLED for (int k = 0; k < 4; ++k) {
          const index_t slot = slot_of(t, k, row);
          KVEVICT_UNROLLED for (int e = 0; e < 4; ++e) key[k].x[e] =
              d + e < some ? keys(row.id, slot, from + d + e) : 0.0F;
        }
        KVEVICT_UNROLLED for (int n = 0; n < Now; ++n) {
          KVEVICT_UNROLLED for (int i = 0; i < 2; ++i) {
            const four_floats q = queries.load(t, place(n * tile_columns + t % 4 * 2 + i, d / 4));
            KVEVICT_UNROLLED for (int k = 0; k < 4; ++k) {
              float& sum = sums.x[k / 2][n][t].x[k % 2 * 2 + i];
              KVEVICT_UNROLLED for (int e = 0; e < 4; ++e) sum = std::fma(key[k].x[e], q.x[e], sum);
            }
          }
        }
      }
    }
    /// On tensor cores. A lane takes four adjacent dims of every 16, for two fragments.
    template <class Keys, int Now>
    KVEVICT_HOST_DEVICE void add_short(Block& b, const Keys& keys, const attention_row& row, index_t from, index_t some,
                                       product_sums<Block, Now>& sums) const {
      typename Block::template local<mma_rows> rows[2][2];
      typename Block::template local<mma_columns> query[2];
      KVEVICT_UNROLLED for (int h = 0; h < 2; ++h) {
        query[h] = b.template make_local<mma_columns>();
        KVEVICT_UNROLLED for (int m = 0; m < 2; ++m) rows[m][h] = b.template make_local<mma_rows>();
      }
      KVEVICT_ROLLED for (index_t first = 0; first < some; first += dims_of_step) {
        b.each([&](int t) {
          KVEVICT_UNROLLED for (int k = 0; k < 4; ++k) {
            const entry_elements<Keys> entry{keys, row.id, slot_of(t, k, row)};
            const four_floats key = four_dims(entry, from + first + t % 4 * 4, from + some);
            KVEVICT_UNROLLED for (int e = 0; e < 4; ++e) rows[k / 2][e / 2][t].x[k % 2 + e % 2 * 2] =
                bits_as<std::uint32_t>(key.x[e]);
          }
        });
        KVEVICT_UNROLLED for (int n = 0; n < Now; ++n) {
          b.each([&](int t) {
            const four_floats q = queries.load(t, place(n * tile_columns + t % warp_threads / 4, first / 4 + t % 4));
            KVEVICT_UNROLLED for (int e = 0; e < 4; ++e) query[e / 2][t].x[e % 2] = bits_as<std::uint32_t>(q.x[e]);
          });
          KVEVICT_UNROLLED for (int h = 0; h < 2; ++h) {
            KVEVICT_UNROLLED for (int m = 0; m < 2; ++m) b.template mma<tf32>(sums.x[m][n], rows[m][h], query[h]);
          }
        }
      }
    }
  };
};

}  // namespace kvevict::detail
