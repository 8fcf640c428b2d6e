// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/detail/row_keys.hpp>

/// The threshold of a selection, digit by digit from the top: three histograms instead of a sort.
namespace kvevict::detail {

inline constexpr int radix_rounds = 3;
inline constexpr index_t radix_bins = 2048;  ///< 11, 11 and 10 bits; the last round leaves half of the bins empty

struct digit {
  int shift = 0, bits = 0;

  [[nodiscard]] KVEVICT_HOST_DEVICE static constexpr digit of(int round) {
    return round == 0 ? digit{21, 11} : round == 1 ? digit{10, 11} : digit{0, 10};
  }
  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr bool first() const { return shift + bits == 32; }
  /// Whether a key has the digits that were found before this one.
  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr bool candidate(std::uint32_t key, std::uint32_t prefix) const {
    const std::uint32_t higher = first() ? 0 : ~0u << (shift + bits);
    return ((key ^ prefix) & higher) == 0;
  }
  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr index_t bin(std::uint32_t key) const {
    return static_cast<index_t>((key >> shift) & ((1u << bits) - 1));
  }
};

/// Shared memory of a search: a histogram, a sum per warp, and what one thread found for all.
template <class Block>
struct digit_memory {
  using words = decltype(std::declval<Block&>().template shared<index_t>(0));
  words bins, of_warps, found;

  KVEVICT_HOST_DEVICE static digit_memory take(Block& b) {
    words bins = b.template shared<index_t>(radix_bins);
    words of_warps = b.template shared<index_t>(warp_threads);
    return {bins, of_warps, b.template shared<index_t>(2)};
  }
};
inline constexpr offset_t digit_memory_bytes = sizeof(index_t) * (radix_bins + warp_threads + 4);

/// Counts neighbouring keys. The first digit passes none over, later ones most.
template <class Block>
KVEVICT_HOST_DEVICE void count_keys(int t, const four_keys& keys, digit d, std::uint32_t prefix,
                                    const digit_memory<Block>& m) {
  if (d.first()) {
    KVEVICT_UNROLLED for (int j = 0; j < 4; ++j) m.bins.add(t, d.bin(keys.x[j]), 1);
    return;
  }
  bool any = false;
  KVEVICT_UNROLLED for (int j = 0; j < 4; ++j) any = any || d.candidate(keys.x[j], prefix);
  if (!any) return;
  KVEVICT_UNROLLED for (int j = 0; j < 4; ++j) {
    if (d.candidate(keys.x[j], prefix)) m.bins.add(t, d.bin(keys.x[j]), 1);
  }
}

/// bins[i] = how many of the row's keys have digit i behind the prefix.
template <class Block>
KVEVICT_HOST_DEVICE void count_digit(Block& b, row_keys<Block>& row, digit d, std::uint32_t prefix,
                                     const digit_memory<Block>& m) {
  b.each([&](int t) {
    for (index_t i = t; i < radix_bins; i += b.threads()) m.bins.store(t, i, 0);
  });
  b.sync();
  b.each([&](int t) {
    KVEVICT_ROLLED for (index_t first = t; first < row.fours(); first += fours_at_once * b.threads()) {
      key_batch keys;
      row.load(b, t, first, b.threads(), keys);
      KVEVICT_UNROLLED for (index_t k = 0; k < fours_at_once; ++k) {
        if (first + k * b.threads() >= row.fours()) break;
        count_keys(t, keys.of[k], d, prefix, m);
      }
    }
    if (t == 0 && d.candidate(0, prefix)) m.bins.add(t, d.bin(0), -row.absent());
  });
  b.sync();
  row.passed();
}

/// The highest of so many bins that a thread has: the highest of all belong to thread 0, and the last may have none.
template <index_t Bins>
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr index_t first_bin(int thread, int threads) {
  return Bins - 1 - thread * ((Bins + threads - 1) / threads);
}
/// Calls f(bin) for the bins of a thread, the highest first.
template <index_t Bins, class F>
KVEVICT_HOST_DEVICE constexpr void each_bin(int thread, int threads, const F& f) {
  const index_t first = first_bin<Bins>(thread, threads);
  for (index_t i = 0; i < (Bins + threads - 1) / threads; ++i) {
    if (first >= i) f(first - i);
  }
}

/// before[t] = candidates in the bins above those of thread t.
template <index_t Bins, class Block, class Local>
KVEVICT_HOST_DEVICE void sum_above(Block& b, const digit_memory<Block>& m, Local& before) {
  auto own = b.template make_local<index_t>();
  b.each([&](int t) {
    own[t] = 0;
    each_bin<Bins>(t, b.threads(), [&](index_t bin) { own[t] += m.bins.load(t, bin); });
  });
  exclusive_sums<index_t>(b, own, before, m.of_warps);
}

/// What stays of one row: every score whose digits are above `key`, and the first `ties` of those that equal it.
struct row_threshold {
  std::uint32_t key = 0;
  index_t ties = 0;

  [[nodiscard]] KVEVICT_HOST_DEVICE static constexpr row_threshold unknown() { return {0, -1}; }
  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr bool known() const { return ties >= 0; }
};

/// The threshold of the best `wanted` scores of a row that has as many, at least 1.
template <class Block>
[[nodiscard]] KVEVICT_HOST_DEVICE row_threshold find_threshold(Block& b, row_keys<Block>& row, index_t wanted,
                                                               const digit_memory<Block>& m) {
  row_threshold result{0, wanted};
  KVEVICT_ROLLED for (int round = 0; round < radix_rounds; ++round) {
    const digit d = digit::of(round);
    count_digit(b, row, d, result.key, m);
    auto before = b.template make_local<index_t>();
    sum_above<radix_bins>(b, m, before);
    b.each([&](int t) {
      index_t reached = before[t];
      each_bin<radix_bins>(t, b.threads(), [&](index_t bin) {
        const index_t in_bin = m.bins.load(t, bin);
        if (reached < result.ties && reached + in_bin >= result.ties) {
          m.found.store(t, 0, bin);
          m.found.store(t, 1, reached);
        }
        reached += in_bin;
      });
    });
    b.sync();
    auto bin = b.template make_local<index_t>(), above = b.template make_local<index_t>();
    b.each([&](int t) {
      bin[t] = m.found.load(t, 0);
      above[t] = m.found.load(t, 1);
    });
    b.sync();
    result.key |= static_cast<std::uint32_t>(b.uniform(bin)) << d.shift;
    result.ties -= b.uniform(above);
  }
  return result;
}
template <class Block>
[[nodiscard]] KVEVICT_HOST_DEVICE row_threshold find_threshold(Block& b, const float* scores, index_t count,
                                                               index_t wanted, const digit_memory<Block>& m) {
  auto none = key_room<Block>::take(b, 0);
  row_keys<Block> row(scores, count, none);
  return find_threshold(b, row, wanted, m);
}

}  // namespace kvevict::detail
