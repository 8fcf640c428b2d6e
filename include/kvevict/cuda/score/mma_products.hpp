// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/score/products.hpp>

namespace kvevict::detail {

/// Keys on tensor cores: a lane wants two words of every sixteen dims, and may choose which, as long as the queries
/// agree. It takes eight adjacent dims of every 32, in one access, and two fragments have them: the first has the words
/// 0 and 1, the second 2 and 3. Of the last 16 of dims that are no multiple of 32, two lanes share a piece of eight.
template <int Dims>
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr int first_dim_of_thread(int thread, int j) {
  return 32 * j + (32 * j + 32 <= Dims ? thread % 4 : thread % 4 / 2) * 8;
}

/// keys[m][f] of a thread: the fragment f of its slots 2m and 2m + 1, from words(k, j), its eight of the 32 dims j of
/// its slot k.
template <int Dims, class Words, class Keys>
KVEVICT_HOST_DEVICE void to_fragments(int t, const Words& words, Keys& keys) {
  KVEVICT_UNROLLED for (int m = 0; m < 2; ++m) {
    KVEVICT_UNROLLED for (int j = 0; j < Dims / 32; ++j) {
      const words4 u = words(2 * m, j), l = words(2 * m + 1, j);
      keys[m][2 * j][t] = {{u.x[0], l.x[0], u.x[1], l.x[1]}};
      keys[m][2 * j + 1][t] = {{u.x[2], l.x[2], u.x[3], l.x[3]}};
    }
    if constexpr (Dims % 32 != 0) {
      const bool second = t % 2 != 0;
      const words4 u = words(2 * m, Dims / 32), l = words(2 * m + 1, Dims / 32);
      keys[m][Dims / 16 - 1][t] = {
          {second ? u.x[2] : u.x[0], second ? l.x[2] : l.x[0], second ? u.x[3] : u.x[1], second ? l.x[3] : l.x[1]}};
    }
  }
}

/// Eight dims of the query of a column; zeros where the column only fills a tile.
template <class Element, class Task>
[[nodiscard]] KVEVICT_HOST_DEVICE words4 words_of_query(const Task& task, const attention_row& row, index_t column,
                                                        index_t d) {
  const auto& from = task.queries.entries;
  words4 q{};
  task.with_query(row, column, [&](const row_id& head, index_t n) {
    const Element* const at = from.at(head, n, d);
    if (dense_dims(from) && at_words4(at)) {
      q = load_eight<true>(at);
    } else {
      KVEVICT_UNROLLED for (int w = 0; w < 4; ++w) q.x[w] =
          from.at(head, n, d + 2 * w)->bits | static_cast<std::uint32_t>(from.at(head, n, d + 2 * w + 1)->bits) << 16;
    }
  });
  return q;
}

/// On tensor cores: plain bf16 or fp16, the dims of a key adjacent, `Dims` of them. Exact products, sums in fp32.
///
/// A lane reads its words straight from where the keys are. The queries lie in shared memory in the same order, every
/// one 64 bytes further in the banks than the one before, so that no two lanes meet in a bank.
///
/// Registers hold at most 192 dims of a key beside the sums. Wider keys are held in part, and the rest is read again
/// for every step: what a block reads of its tile so is at most 64 KB, and stays in the first cache.
template <class Element, int Dims>
struct mma_products {
  static_assert(Dims % 16 == 0 && sizeof(Element) == 2);
  static constexpr int held = Dims <= 192 ? Dims : 128;  ///< dims in registers
  static_assert(held == Dims || Dims % 32 == 0);
  static constexpr int tiles_for_sums = 2, tiles_for_columns = 4;
  static constexpr bool sums_ahead = false, columns_ahead = false;
  static constexpr int parts = Dims / 8;  ///< of 16 bytes
  static constexpr int pitch = ((2 * Dims + 63) / 128 * 128 + 64) / 16;
  static constexpr index_t columns = 128 * pitch <= 2560 ? 128 : 64;  // what every device has: 48 KB in all
  [[nodiscard]] KVEVICT_HOST_DEVICE static constexpr offset_t shared_bytes(int /*threads*/) {
    return columns * pitch * sizeof(words4);
  }

  struct key_places {
    const Element* key[4];
    bool aligned = true;
  };

  template <class Block>
  struct on {
    decltype(std::declval<Block&>().template shared<words4>(1)) queries;
    typename Block::template local<mma_rows> keys[2][std::size_t{held} / 16];
    typename Block::template local<key_places> places;  ///< of the four slots of a thread, where more is to be read
    typename Block::template local<mma_columns> query;

    KVEVICT_HOST_DEVICE static on take(Block& b) {
      on o{b.template shared<words4>(columns * pitch), {}, {}, b.template make_local<mma_columns>()};
      KVEVICT_UNROLLED for (int m = 0; m < 2; ++m) {
        KVEVICT_UNROLLED for (int j = 0; j < held / 16; ++j) o.keys[m][j] = b.template make_local<mma_rows>();
      }
      if constexpr (held < Dims) o.places = b.template make_local<key_places>();
      return o;
    }
    template <class Task>
    KVEVICT_HOST_DEVICE void hold_queries(Block& b, const Task& task, const attention_row& row, index_t first) {
      b.each([&](int t) {
        KVEVICT_ROLLED for (index_t i = t; i < columns * parts; i += b.threads()) {
          const index_t column = i / parts;
          const words4 q = words_of_query<Element>(task, row, first + column, i % parts * 8);
          queries.store(t, column * pitch + i % parts, q);
        }
      });
    }
    template <class Task>
    KVEVICT_HOST_DEVICE void expect_keys(Block&, const Task&, const attention_row&, index_t) {}
    template <class Task>
    KVEVICT_HOST_DEVICE void hold_keys(Block& b, const Task& task, const attention_row& row, index_t first,
                                       index_t /*next*/) {
      const auto& from = task.cache.keys();
      b.each([&](int t) {
        key_places at{};
        KVEVICT_UNROLLED for (int k = 0; k < 4; ++k) {
          at.key[k] = from.at(row.id, least(first + slot_of_thread(t, k), row.length - 1), 0);
          at.aligned = at.aligned && at_words4(at.key[k]);
        }
        load<held>(t, at, 0, keys);
        if constexpr (held < Dims) places[t] = at;
      });
    }
    template <class Task, int Tiles>
    KVEVICT_HOST_DEVICE void multiply(Block& b, const Task&, const attention_row&, index_t, index_t step,
                                      product_sums<Block, Tiles>& sums) {
      b.each([&](int t) { sums.clear(t); });
      KVEVICT_UNROLLED for (int j = 0; j < held / 32; ++j) {
        add(
            b, step, j, sums, [&](int m, int h) -> const auto& { return keys[m][2 * j + h]; });
      }
      if constexpr (held < Dims) {
        typename Block::template local<mma_rows> more[2][2] = {
            {b.template make_local<mma_rows>(), b.template make_local<mma_rows>()},
            {b.template make_local<mma_rows>(), b.template make_local<mma_rows>()}};
        KVEVICT_ROLLED for (int j = held / 32; j < Dims / 32; ++j) {
          b.each([&](int t) { load<32>(t, places[t], 32 * j, more); });
          add(
              b, step, j, sums, [&](int m, int h) -> const auto& { return more[m][h]; });
        }
      }
      if constexpr (Dims % 32 != 0) {
        KVEVICT_UNROLLED for (int n = 0; n < Tiles; ++n) {
          b.each([&](int t) {
            const words4 q = queries.load(t, column(t, step, n) * pitch + parts - 2 + t % 4 / 2);
            query[t] = {{t % 2 != 0 ? q.x[2] : q.x[0], t % 2 != 0 ? q.x[3] : q.x[1]}};
          });
          KVEVICT_UNROLLED for (int m = 0; m < 2; ++m)
              b.template mma<Element>(sums.x[m][n], keys[m][Dims / 16 - 1], query);
        }
      }
    }

   private:
    /// Adds the products of 32 dims, whose keys are rows(m, h).
    template <int Tiles, class Rows>
    KVEVICT_HOST_DEVICE void add(Block& b, index_t step, int j, product_sums<Block, Tiles>& sums, const Rows& rows) {
      auto eight = b.template make_local<words4>();
      KVEVICT_UNROLLED for (int n = 0; n < Tiles; ++n) {
        b.each([&](int t) { eight[t] = queries.load(t, column(t, step, n) * pitch + 4 * j + t % 4); });
        KVEVICT_UNROLLED for (int h = 0; h < 2; ++h) {
          b.each([&](int t) { query[t] = {{eight[t].x[2 * h], eight[t].x[2 * h + 1]}}; });
          KVEVICT_UNROLLED for (int m = 0; m < 2; ++m) b.template mma<Element>(sums.x[m][n], rows(m, h), query);
        }
      }
    }
    /// The fragments of `Some` dims from `first`.
    template <int Some, class Keys>
    KVEVICT_HOST_DEVICE static void load(int t, const key_places& from, int first, Keys& to) {
      from.aligned ? load<true, Some>(t, from, first, to) : load<false, Some>(t, from, first, to);
    }
    template <bool Aligned, int Some, class Keys>
    KVEVICT_HOST_DEVICE static void load(int t, const key_places& from, int first, Keys& to) {
      const auto words = [&](int k, int j) {
        return load_eight<Aligned>(from.key[k] + first + first_dim_of_thread<Some>(t, j));
      };
      to_fragments<Some>(t, words, to);
    }
    [[nodiscard]] KVEVICT_HOST_DEVICE static index_t column(int t, index_t step, int n) {
      return step + n * tile_columns + t % warp_threads / 4;
    }
  };
};

}  // namespace kvevict::detail
