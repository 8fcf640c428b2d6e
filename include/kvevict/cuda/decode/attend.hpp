// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <kvevict/cuda/detail/entry_elements.hpp>
#include <kvevict/cuda/detail/fragments.hpp>

/// Attention of few query rows over one row of the cache, by one block: what decode asks for at a step. Products are in
/// fp32 for any element and layout; a key is read once for eight query rows. One source for the device and for tests
/// (detail/block.hpp).
namespace kvevict::detail {

inline constexpr int rows_at_once = 8, slots_at_once = 4;
static_assert(rows_at_once * slots_at_once == warp_threads);
inline constexpr index_t query_dims_at_once = 512, query_fours = query_dims_at_once / 4;

/// Shared memory of `attend`.
template <class Block>
struct attend_memory {
  decltype(std::declval<Block&>().template shared<four_floats>(0)) queries;  ///< [rows_at_once][query_fours]
  decltype(std::declval<Block&>().template shared<float>(0)) of_warps;

  KVEVICT_HOST_DEVICE static attend_memory take(Block& b) {
    const auto queries = b.template shared<four_floats>(rows_at_once * query_fours);
    return {queries, b.template shared<float>(warp_threads)};
  }
};
inline constexpr offset_t attend_bytes = sizeof(float) * (rows_at_once * query_dims_at_once + warp_threads);

/// Memory of the device that outlives the call, as an array.
template <class Block>
struct lasting_floats {
  Block& b;
  float* data;
  [[nodiscard]] KVEVICT_HOST_DEVICE float load(int t, offset_t i) const { return b.template load<float>(t, data + i); }
  KVEVICT_HOST_DEVICE void store(int t, offset_t i, float value) const { b.store(t, data + i, value); }
};

/// The query rows of a row of the cache: `rows` of every query_head, from number `first_query` on in the inputs; the
/// first of them is that of token `first_token`.
struct query_rows {
  row_id row;
  index_t length = 0;  ///< slots of the row
  index_t group_size = 1, rows = 0, first_query = 0, first_token = 0;

  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr row_id head(index_t h) const {
    row_id at = row;
    at.kv_head = row.kv_head * group_size + h;
    return at;
  }
};

/// logits[row at once][slot] (+)= products of the keys with the queries that are held, over the dims from `first_dim`.
///
/// A warp has four slots, and a lane every 32nd four of their dims: 32 sums, of which each lane then gives half away
/// and gets the other lane's part of those that it keeps, until it has one whole sum: that of slot lane / 8 and row
/// lane % 8.
template <class Block, class Keys, class Array>
KVEVICT_HOST_DEVICE void few_products(Block& b, const Keys& keys, const row_id& row, index_t length, index_t first_dim,
                                      index_t dims, const attend_memory<Block>& m, const Array& logits,
                                      offset_t stride) {
  using local = decltype(b.template make_local<float>());
  const index_t warps = b.threads() / warp_threads;
  const auto slot_of = [&](index_t first, int t, int s) { return first + s * warps + t / warp_threads; };
  local x[warp_threads], given = b.template make_local<float>();
  KVEVICT_UNROLLED for (int i = 0; i < warp_threads; ++i) x[i] = b.template make_local<float>();
  KVEVICT_ROLLED for (index_t first = 0; first < length; first += slots_at_once * warps) {
    b.each([&](int t) {
      const auto elements = [&](int s) {
        return entry_elements<Keys>{keys, row, least(slot_of(first, t, s), length - 1)};
      };
      const entry_elements<Keys> of[slots_at_once] = {elements(0), elements(1), elements(2), elements(3)};
      KVEVICT_UNROLLED for (int i = 0; i < warp_threads; ++i) x[i][t] = 0;
      KVEVICT_ROLLED for (index_t four = t % warp_threads; 4 * four < dims; four += warp_threads) {
        four_floats key[slots_at_once];
        four_dims(of, first_dim + 4 * four, first_dim + dims, key);
        KVEVICT_UNROLLED for (int q = 0; q < rows_at_once; ++q) {
          const four_floats query = m.queries.load(t, q * query_fours + four);
          KVEVICT_UNROLLED for (int s = 0; s < slots_at_once; ++s) {
            float& sum = x[s * rows_at_once + q][t];
            KVEVICT_UNROLLED for (int e = 0; e < 4; ++e) sum = std::fma(key[s].x[e], query.x[e], sum);
          }
        }
      }
    });
    KVEVICT_UNROLLED for (int step = 0; step < warp_steps; ++step) {
      const int half = warp_threads / 2 >> step;
      KVEVICT_UNROLLED for (int i = 0; i < warp_threads / 2; ++i) {
        if (i >= half) continue;
        b.each([&](int t) {
          const bool upper = (t & half) != 0;
          given[t] = upper ? x[i][t] : x[i + half][t];
          x[i][t] = upper ? x[i + half][t] : x[i][t];
        });
        const local other = b.shuffle_xor(given, half);
        b.each([&](int t) { x[i][t] += other[t]; });
      }
    }
    b.each([&](int t) {
      const index_t slot = slot_of(first, t, t % warp_threads / rows_at_once);
      if (slot >= length) return;
      const offset_t at = t % rows_at_once * stride + slot;
      logits.store(t, at, first_dim > 0 ? logits.load(t, at) + x[0][t] : x[0][t]);
    });
  }
}

/// columns[query_head * column_stride + slot] += weight * a[query row, slot] for all query rows (score/attention.hpp),
/// oldest first; `visible(i)` says how many slots the i-th sees. Thread t has the slots t, t + threads, ..: also what
/// the caller does to the columns before and after needs no barrier. `logits` is [rows_at_once][stride].
template <class Block, class Attention, class Keys, class Queries, class Visible, class Columns, class Array>
KVEVICT_HOST_DEVICE void attend(Block& b, const Attention& how, const Keys& keys, const Queries& queries,
                                const query_rows& of, index_t budget, const Visible& visible, const Columns& columns,
                                offset_t column_stride, const Array& logits, offset_t stride) {
  const auto m = attend_memory<Block>::take(b);
  const index_t dims = keys.dims(), total = of.group_size * of.rows;
  auto peak = b.template make_local<float>(), mass = peak;
  KVEVICT_ROLLED for (index_t first = 0; first < total; first += rows_at_once) {
    KVEVICT_ROLLED for (index_t from = 0; from < dims; from += query_dims_at_once) {
      const index_t some = least(query_dims_at_once, dims - from);
      b.sync();
      b.each([&](int t) {
        const index_t fours = (some + 3) / 4;  // behind the dims zeros
        KVEVICT_ROLLED for (index_t i = t; i < rows_at_once * fours; i += b.threads()) {
          const index_t q = first + i / fours, d = 4 * (i % fours);
          four_floats x{};
          if (q < total)
            x = four_dims(entry_elements<Queries>{queries, of.head(q / of.rows), of.first_query + q % of.rows},
                          from + d, from + some);
          m.queries.store(t, i / fours * query_fours + d / 4, x);
        }
      });
      b.sync();
      few_products(b, keys, of.row, of.length, from, some, m, logits, stride);
    }
    b.sync();
    KVEVICT_ROLLED for (index_t q = first; q < least(first + rows_at_once, total); ++q) {
      const index_t i = q % of.rows, seen = visible(i);
      const offset_t products = (q - first) * stride, column = q / of.rows * column_stride;
      constexpr float log2_of_e = 1.44269504088896341F;
      const float scale = log2_of_e / std::sqrt(static_cast<float>(dims)) * how.gain(of.first_token + i + 1, budget);
      const auto weight = static_cast<float>(how.weight(of.rows - 1 - i));
      b.each([&](int t) {
        peak[t] = -0x1.fffffep127F;
        for (index_t j = t; j < seen; j += b.threads())
          peak[t] = greatest(peak[t], scale * logits.load(t, products + j));
      });
      peak = reduce_block(b, peak, m.of_warps, [](float x, float y) { return greatest(x, y); });
      b.each([&](int t) {
        mass[t] = 0;
        for (index_t j = t; j < seen; j += b.threads())
          mass[t] += exp2_fast(scale * logits.load(t, products + j) - peak[t]);
      });
      mass = reduce_block(b, mass, m.of_warps, [](float x, float y) { return x + y; });
      b.each([&](int t) {
        for (index_t j = t; j < seen; j += b.threads())
          columns.store(t, column + j,
                        columns.load(t, column + j) +
                            weight / mass[t] * exp2_fast(scale * logits.load(t, products + j) - peak[t]));
      });
    }
  }
}

}  // namespace kvevict::detail
