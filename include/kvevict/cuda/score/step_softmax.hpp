// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/score/products.hpp>

namespace kvevict::detail {

/// The parts of the sums of a column joined: the maximum of all, and the mass in units of it.
struct joined_sum {
  float peak = -0x1.fffffep127F;
  float mass = 0;

  KVEVICT_HOST_DEVICE void add(float other_peak, float other_mass) {
    const float top = greatest(peak, other_peak);
    mass = mass * exp2_fast(peak - top) + other_mass * exp2_fast(other_peak - top);
    peak = top;
  }
  [[nodiscard]] KVEVICT_HOST_DEVICE float log_sum() const { return peak + std::log2(mass); }
};

[[nodiscard]] KVEVICT_HOST_DEVICE inline joined_sum join_parts(const softmax_parts& from, index_t row, offset_t column,
                                                               index_t parts) {
  joined_sum sum;
  KVEVICT_ROLLED for (index_t p = 0; p < parts; ++p) {
    const offset_t at = from.at(row, p, column);
    sum.add(from.peak[at], from.mass[at]);
  }
  return sum;
}

/// Maxima and sums of the columns of two tiles over the 32 slots of a warp.
///
/// A thread starts with all four columns that it has products of, and joins what eight lanes have of the same columns:
/// in an exchange it gives away half of its columns and gets what the other lane has of the half that it keeps. After
/// two it has one column, which two lanes then join.
template <class Block>
struct step_softmax {
  static constexpr int tiles = 2;
  static constexpr int columns = 2 * tiles;  ///< of a thread
  typename Block::template local<float> peak[columns / 2], mass[columns / 2];
  typename Block::template local<float> given_peak[columns / 2], given_mass[columns / 2];

  KVEVICT_HOST_DEVICE static step_softmax take(Block& b) {
    step_softmax s;
    KVEVICT_UNROLLED for (int c = 0; c < columns / 2; ++c) {
      s.peak[c] = s.mass[c] = s.given_peak[c] = s.given_mass[c] = b.template make_local<float>();
    }
    return s;
  }
  /// Leaves in peak[0] and mass[0] those of the `column(thread)` of the tiles from `tile`, whose terms start at
  /// `first`.
  template <int Tiles, class Shared>
  KVEVICT_HOST_DEVICE void sum(Block& b, const product_sums<Block, Tiles>& sums, int tile, const Shared& terms,
                               index_t first, index_t slot) {
    KVEVICT_UNROLLED for (int c = 0; c < columns / 2; ++c) {  // the first exchange at once: registers
      b.each([&](int t) {
        const bool upper = t % warp_threads >= warp_threads / 2;
        const joined_sum low = of_thread(t, sums, tile, terms, first, slot, c);
        const joined_sum high = of_thread(t, sums, tile, terms, first, slot, c + columns / 2);
        keep(t, c, upper ? high : low, upper ? low : high);
      });
      join(b, c, warp_threads / 2);
    }
    b.each([&](int t) {
      const bool upper = (t & 8) != 0;
      const joined_sum low{peak[0][t], mass[0][t]}, high{peak[1][t], mass[1][t]};
      keep(t, 0, upper ? high : low, upper ? low : high);
    });
    join(b, 0, 8);
    b.each([&](int t) { keep(t, 0, {peak[0][t], mass[0][t]}, {peak[0][t], mass[0][t]}); });
    join(b, 0, 4);
  }
  /// The column of the tiles that a lane is left with: the bits that decided what it kept. Lane + 4 has the same.
  [[nodiscard]] KVEVICT_HOST_DEVICE static constexpr int column(int thread) {
    return thread % warp_threads / 16 * tile_columns + thread % 4 * 2 + thread % 16 / 8;
  }

 private:
  /// Of column `c` of the thread, over its four slots.
  template <int Tiles, class Shared>
  [[nodiscard]] KVEVICT_HOST_DEVICE static joined_sum of_thread(int t, const product_sums<Block, Tiles>& sums, int tile,
                                                                const Shared& terms, index_t first, index_t slot,
                                                                int c) {
    const column_terms of = terms.load(t, first + c / 2 * tile_columns + t % 4 * 2 + c % 2);
    joined_sum sum;
    KVEVICT_UNROLLED for (int k = 0; k < 4; ++k) {
      if (slot + slot_of_thread(t, k) < of.visible)
        sum.peak = greatest(sum.peak, of.scale * sums.of(t, k, tile + c / 2, c % 2));
    }
    KVEVICT_UNROLLED for (int k = 0; k < 4; ++k) {
      const float e = exp2_fast(of.scale * sums.of(t, k, tile + c / 2, c % 2) - sum.peak);
      sum.mass += slot + slot_of_thread(t, k) < of.visible ? e : 0.0F;
    }
    return sum;
  }
  KVEVICT_HOST_DEVICE void keep(int t, int c, const joined_sum& kept, const joined_sum& given) {
    peak[c][t] = kept.peak;
    mass[c][t] = kept.mass;
    given_peak[c][t] = given.peak;
    given_mass[c][t] = given.mass;
  }
  /// Joins the kept column c with what the lane on the other side gave.
  KVEVICT_HOST_DEVICE void join(Block& b, int c, int lanes) {
    const auto other_peak = b.shuffle_xor(given_peak[c], lanes), other_mass = b.shuffle_xor(given_mass[c], lanes);
    b.each([&](int t) {
      joined_sum s{peak[c][t], mass[c][t]};
      s.add(other_peak[t], other_mass[t]);
      peak[c][t] = s.peak;
      mass[c][t] = s.mass;
    });
  }
};

}  // namespace kvevict::detail
