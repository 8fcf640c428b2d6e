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

static_assert(digit::of(0).shift == list_shift);

/// Shared memory of a search: a histogram, a sum per warp, and what one thread found for all.
template <class Block>
struct digit_memory {
  using words = decltype(std::declval<Block&>().template shared<index_t>(0));
  words bins, of_warps, found;

  KVEVICT_HOST_DEVICE static digit_memory take(Block& b) {
    words bins = b.template shared<index_t>(radix_bins);
    words of_warps = b.template shared<index_t>(warp_threads);
    return {bins, of_warps, b.template shared<index_t>(3)};
  }
};
inline constexpr offset_t digit_memory_bytes = sizeof(index_t) * (radix_bins + warp_threads + 4);

/// Counts neighbouring keys, and lists those that it counts if `lists`. The first digit passes none over, later ones
/// most.
template <class Block>
KVEVICT_HOST_DEVICE void count_keys(int t, const four_keys& keys, digit d, std::uint32_t prefix,
                                    const digit_memory<Block>& m, const key_room<Block>& room, bool lists) {
  if (d.first()) {
    KVEVICT_UNROLLED for (int j = 0; j < 4; ++j) m.bins.add(t, d.bin(keys.x[j]), 1);
    return;
  }
  bool any = false;
  KVEVICT_UNROLLED for (int j = 0; j < 4; ++j) any = any || d.candidate(keys.x[j], prefix);
  if (!any) return;
  KVEVICT_UNROLLED for (int j = 0; j < 4; ++j) {
    if (!d.candidate(keys.x[j], prefix)) continue;
    m.bins.add(t, d.bin(keys.x[j]), 1);
    if (!lists) continue;
    const index_t at = room.found.add(t, 0, 1);
    if (at < room.list_room) room.list.store(t, at, keys.x[j]);
  }
}

/// bins[i] = how many of the row's keys have digit i behind the prefix, which so many `candidates` have. Where these
/// are few, they are listed, and later digits are counted from the list.
template <class Block>
KVEVICT_HOST_DEVICE void count_digit(Block& b, row_keys<Block>& row, digit d, std::uint32_t prefix, index_t candidates,
                                     const digit_memory<Block>& m) {
  const key_room<Block>& room = row.room();
  const index_t listed = d.first() ? -1 : row.listed(prefix);
  const bool lists = listed < 0 && d.shift + d.bits == list_shift && !d.candidate(0, prefix) && room.list_room > 0 &&
                     candidates <= room.list_room;
  b.each([&](int t) {
    for (index_t i = t; i < radix_bins; i += b.threads()) m.bins.store(t, i, 0);
    if (lists && t == 0) room.found.store(t, 0, 0);
  });
  b.sync();
  if (listed >= 0) {
    b.each([&](int t) {
      KVEVICT_ROLLED for (index_t i = t; i < listed; i += b.threads()) {
        const std::uint32_t key = room.list.load(t, i);
        if (d.candidate(key, prefix)) m.bins.add(t, d.bin(key), 1);
      }
    });
    b.sync();
    return;
  }
  row.each_four(b, [&](int t, const four_keys& keys) { count_keys(t, keys, d, prefix, m, room, lists); });
  b.each([&](int t) {
    if (t == 0 && d.candidate(0, prefix)) m.bins.add(t, d.bin(0), -row.absent());
  });
  b.sync();
  row.passed();
  if (lists) row.has_listed(candidates, prefix);
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

  /// Where something is to search for; `key` is that of which the digits were counted for a joint budget.
  [[nodiscard]] KVEVICT_HOST_DEVICE static constexpr row_threshold unknown(std::uint32_t key = 0) { return {key, -1}; }
  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr bool known() const { return ties >= 0; }
};

/// Digits of a row that were counted before, for the threshold of its pool: those behind the digits of `key`.
struct counted_digits {
  /// [radix_rounds][rows][radix_bins + 1]: keys of a row with that digit or a higher one, those that the digits before
  /// have passed included, which also stand behind the last bin. Null: nothing was counted.
  const index_t* reached;
  offset_t rows;
  index_t row;
  std::uint32_t key;

  [[nodiscard]] KVEVICT_HOST_DEVICE static constexpr offset_t place(offset_t rows, int round, index_t row,
                                                                    index_t bin) {
    return (round * rows + row) * (radix_bins + 1) + bin;
  }
  [[nodiscard]] KVEVICT_HOST_DEVICE bool has(digit d, std::uint32_t prefix) const {
    return reached != nullptr && d.candidate(key, prefix);
  }
  template <class Block>
  [[nodiscard]] KVEVICT_HOST_DEVICE index_t load(Block& b, int t, int round, index_t bin) const {
    return b.template load<index_t>(t, reached + place(rows, round, row, bin));
  }
};
struct nothing_counted {
  [[nodiscard]] KVEVICT_HOST_DEVICE static constexpr bool has(digit, std::uint32_t) { return false; }
};

/// The threshold of the best `wanted` scores of a row that has as many, at least 1; `counted` knows some digits.
template <class Block, class Counted = nothing_counted>
[[nodiscard]] KVEVICT_HOST_DEVICE row_threshold find_threshold(Block& b, row_keys<Block>& row, index_t wanted,
                                                               const digit_memory<Block>& m,
                                                               const Counted& counted = {}) {
  std::uint32_t prefix = 0;
  index_t passed = 0, candidates = 0;  // keys above the prefix; keys that have it
  KVEVICT_ROLLED for (int round = 0; round < radix_rounds; ++round) {
    const digit d = digit::of(round);
    const auto try_bin = [&](int t, index_t bin, index_t above, index_t reached) {
      if (above >= wanted || reached < wanted) return;
      m.found.store(t, 0, bin);
      m.found.store(t, 1, above);
      m.found.store(t, 2, reached - above);
    };
    const auto look_up = [&] {
      if constexpr (!std::is_same_v<Counted, nothing_counted>)
        b.each([&](int t) {
          KVEVICT_ROLLED for (index_t bin = t; bin < radix_bins; bin += b.threads())
              try_bin(t, bin, counted.load(b, t, round, bin + 1), counted.load(b, t, round, bin));
        });
    };
    if (counted.has(d, prefix)) {
      look_up();
    } else {
      count_digit(b, row, d, prefix, candidates, m);
      auto before = b.template make_local<index_t>();
      sum_above<radix_bins>(b, m, before);
      b.each([&](int t) {
        index_t above = passed + before[t];
        each_bin<radix_bins>(t, b.threads(), [&](index_t bin) {
          const index_t reached = above + m.bins.load(t, bin);
          try_bin(t, bin, above, reached);
          above = reached;
        });
      });
    }
    b.sync();
    auto bin = b.template make_local<index_t>(), above = bin, in_bin = bin;
    b.each([&](int t) {
      bin[t] = m.found.load(t, 0);
      above[t] = m.found.load(t, 1);
      in_bin[t] = m.found.load(t, 2);
    });
    b.sync();
    prefix |= static_cast<std::uint32_t>(b.uniform(bin)) << d.shift;
    passed = b.uniform(above);
    candidates = b.uniform(in_bin);
  }
  return {prefix, wanted - passed};
}
template <class Block>
[[nodiscard]] KVEVICT_HOST_DEVICE row_threshold find_threshold(Block& b, const float* scores, index_t count,
                                                               index_t wanted, const digit_memory<Block>& m) {
  auto none = key_room<Block>::take(b, 0);
  row_keys<Block> row(scores, count, none);
  return find_threshold(b, row, wanted, m);
}

}  // namespace kvevict::detail
