// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/score/attention_task.hpp>
#include <utility>

/// Two ways to multiply the keys of a block with the queries of a step, behind one interface:
///
///     columns, shared_bytes                   of the queries that are held at once
///     on<Block>::take(b)                      its memory
///     hold_queries(b, task, row, first)       the queries of the columns from `first`; all threads have come before
///                                             and come after
///     hold_keys(b, task, row, first)          the keys of the slots from `first`, one slot per thread of the block
///     multiply(b, task, row, first, step, s)  s = products of these keys and the columns from `first + step`, a step
///
/// A warp has 32 slots, and lane 4 g + t of it the products of the slots g, g + 8, g + 16, g + 24 (two fragments of
/// mma_sums) with columns 2t and 2t + 1 of every tile. Slots beyond the row repeat its last one.
namespace kvevict::detail {

/// The products of a thread, in `Tiles` tiles.
template <class Block, int Tiles>
struct product_sums {
  static constexpr int columns = Tiles * tile_columns;
  typename Block::template local<mma_sums> x[2][std::size_t{Tiles}];

  KVEVICT_HOST_DEVICE static product_sums take(Block& b) {
    product_sums s;
    KVEVICT_UNROLLED for (int m = 0; m < 2; ++m) {
      KVEVICT_UNROLLED for (int n = 0; n < Tiles; ++n) s.x[m][n] = b.template make_local<mma_sums>();
    }
    return s;
  }
  KVEVICT_HOST_DEVICE void clear(int t) {
    KVEVICT_UNROLLED for (int m = 0; m < 2; ++m) {
      KVEVICT_UNROLLED for (int n = 0; n < Tiles; ++n) x[m][n][t] = mma_sums{};
    }
  }
  /// Product of slot `k` of the thread's four and column `i` of its two of tile `n`.
  [[nodiscard]] KVEVICT_HOST_DEVICE float of(int t, int k, int n, int i) const {
    return x[k / 2][n][t].x[k % 2 * 2 + i];
  }
};

/// The k-th of four slots of a thread, counted from the first of its block.
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr int slot_of_thread(int thread, int k) {
  return thread / warp_threads * warp_threads + thread % warp_threads / 4 + 8 * k;
}

/// In fp32, for whatever reads as numbers: any element, reader, layout and width.
struct fma_products {
  static constexpr index_t columns = 128;
  static constexpr index_t dims_at_once = 128;
  static constexpr index_t most_pairs = tiles_for_columns * tile_columns / 2;
  static constexpr index_t pitch = most_pairs + 1;  // one more, against bank conflicts

  struct alignas(8) pair {
    float x[2];
  };
  static constexpr offset_t shared_bytes = dims_at_once * pitch * sizeof(pair);

  template <class Block>
  struct on {
    decltype(std::declval<Block&>().template shared<pair>(1)) queries;
    index_t first_slot = 0;

    KVEVICT_HOST_DEVICE static on take(Block& b) { return {b.template shared<pair>(dims_at_once * pitch)}; }
    template <class Task>
    KVEVICT_HOST_DEVICE void hold_queries(Block&, const Task&, const attention_row&, index_t) {}
    template <class Task>
    KVEVICT_HOST_DEVICE void hold_keys(Block&, const Task&, const attention_row&, index_t first) {
      first_slot = first;
    }
    template <class Task, int Tiles>
    KVEVICT_HOST_DEVICE void multiply(Block& b, const Task& task, const attention_row& row, index_t first, index_t step,
                                      product_sums<Block, Tiles>& sums) {
      const auto& keys = task.cache.keys();
      const index_t dims = keys.dims();
      b.each([&](int t) { sums.clear(t); });
      KVEVICT_ROLLED for (index_t from = 0; from < dims; from += dims_at_once) {
        const index_t some = least(dims_at_once, dims - from);
        b.sync();
        b.each([&](int t) {
          KVEVICT_ROLLED for (index_t i = t; i < Tiles * tile_columns / 2 * some; i += b.threads()) {
            const index_t d = i % some, p = i / some;
            pair q{};
            KVEVICT_UNROLLED for (int k = 0; k < 2; ++k) {
              task.with_query(row, first + step + 2 * p + k, [&](const row_id& head, index_t query) {
                q.x[k] = task.queries.entries(head, query, from + d);
              });
            }
            queries.store(t, d * pitch + p, q);
          }
        });
        b.sync();
        b.each([&](int t) { add(t, keys, row, from, some, sums); });
      }
    }

   private:
    template <class Keys, int Tiles>
    KVEVICT_HOST_DEVICE void add(int t, const Keys& keys, const attention_row& row, index_t from, index_t some,
                                 product_sums<Block, Tiles>& sums) const {
      KVEVICT_ROLLED for (index_t d = 0; d < some; ++d) {
        float key[4];
        KVEVICT_UNROLLED for (int k = 0; k < 4; ++k) {
          key[k] = keys(row.id, least(first_slot + slot_of_thread(t, k), row.length - 1), from + d);
        }
        KVEVICT_UNROLLED for (int n = 0; n < Tiles; ++n) {
          const pair q = queries.load(t, d * pitch + n * tile_columns / 2 + t % 4);
          KVEVICT_UNROLLED for (int k = 0; k < 4; ++k) {
            KVEVICT_UNROLLED for (int i = 0; i < 2; ++i) {
              float& sum = sums.x[k / 2][n][t].x[k % 2 * 2 + i];
              sum = std::fma(key[k], q.x[i], sum);
            }
          }
        }
      }
    }
  };
};

/// On tensor cores: plain bf16 or fp16, the dims of a key adjacent, `Dims` of them. Exact products, sums in fp32.
///
/// A lane wants two words of every sixteen dims, and may choose which: it reads eight adjacent dims of 32, straight
/// from where the keys are, in one access, and two fragments have them. The queries lie in shared memory in the same
/// order, every one 64 bytes further in the banks than the one before, so that no two lanes meet in a bank.
///
/// Registers hold at most 192 dims of a key beside the sums. Wider keys are held in part, and the rest is read again
/// for every step: what a block reads of its tile so is at most 64 KB, and stays in the first cache.
template <class Element, int Dims>
struct mma_products {
  static_assert(Dims % 16 == 0 && sizeof(Element) == 2);
  static constexpr int held = Dims <= 192 ? Dims : 128;  ///< dims in registers
  static_assert(held == Dims || Dims % 32 == 0);
  static constexpr int parts = Dims / 8;  ///< of 16 bytes
  static constexpr int pitch = ((2 * Dims + 63) / 128 * 128 + 64) / 16;
  static constexpr index_t columns = 128 * pitch <= 2560 ? 128 : 64;  // what every device has: 48 KB in all
  static constexpr offset_t shared_bytes = columns * pitch * sizeof(words4);

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
      const auto& from = task.queries.entries;
      const bool dense = dense_dims(from);
      b.each([&](int t) {
        KVEVICT_ROLLED for (index_t i = t; i < columns * parts; i += b.threads()) {
          const index_t column = i / parts, d = i % parts * 8;
          words4 q{};
          task.with_query(row, first + column, [&](const row_id& head, index_t n) {
            const Element* const at = from.at(head, n, d);
            if (dense && at_words4(at)) {
              q = load_eight<true>(at);
            } else {
              KVEVICT_UNROLLED for (int w = 0; w < 4; ++w) q.x[w] =
                  from.at(head, n, d + 2 * w)->bits | static_cast<std::uint32_t>(from.at(head, n, d + 2 * w + 1)->bits)
                                                          << 16;
            }
          });
          queries.store(t, column * pitch + i % parts, q);
        }
      });
    }
    template <class Task>
    KVEVICT_HOST_DEVICE void hold_keys(Block& b, const Task& task, const attention_row& row, index_t first) {
      const auto& from = task.cache.keys();
      b.each([&](int t) {
        key_places at{};
        KVEVICT_UNROLLED for (int k = 0; k < 4; ++k) {
          at.key[k] = from.at(row.id, least(first + slot_of_thread(t, k), row.length - 1), 0);
          at.aligned = at.aligned && at_words4(at.key[k]);
        }
        at.aligned ? load<true>(t, at) : load<false>(t, at);
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
          b.each([&](int t) {
            KVEVICT_UNROLLED for (int m = 0; m < 2; ++m) {
              places[t].aligned ? load_32<true>(t, places[t], m, j, more[m])
                                : load_32<false>(t, places[t], m, j, more[m]);
            }
          });
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
    /// Two fragments have 32 dims of the slots of m.
    template <bool Aligned, class Rows>
    KVEVICT_HOST_DEVICE static void load_32(int t, const key_places& from, int m, int j, Rows* to) {
      const int d = 32 * j + t % 4 * 8;
      const words4 u = load_eight<Aligned>(from.key[2 * m] + d), l = load_eight<Aligned>(from.key[2 * m + 1] + d);
      to[0][t] = {{u.x[0], l.x[0], u.x[1], l.x[1]}};
      to[1][t] = {{u.x[2], l.x[2], u.x[3], l.x[3]}};
    }
    template <bool Aligned>
    KVEVICT_HOST_DEVICE void load(int t, const key_places& from) {
      KVEVICT_UNROLLED for (int m = 0; m < 2; ++m) {
        KVEVICT_UNROLLED for (int j = 0; j < held / 32; ++j) load_32<Aligned>(t, from, m, j, keys[m] + 2 * j);
        if constexpr (Dims % 32 != 0) {  // two lanes share sixteen bytes
          const int d = Dims - 16 + t % 4 / 2 * 8;
          const bool second = t % 2 != 0;
          const words4 u = load_eight<Aligned>(from.key[2 * m] + d), l = load_eight<Aligned>(from.key[2 * m + 1] + d);
          keys[m][Dims / 16 - 1][t] = {
              {second ? u.x[2] : u.x[0], second ? l.x[2] : l.x[0], second ? u.x[3] : u.x[1], second ? l.x[3] : l.x[1]}};
        }
      }
    }
    [[nodiscard]] KVEVICT_HOST_DEVICE static index_t column(int t, index_t step, int n) {
      return step + n * tile_columns + t % warp_threads / 4;
    }
  };
};

}  // namespace kvevict::detail
