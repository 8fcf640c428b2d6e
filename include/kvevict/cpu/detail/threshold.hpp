// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <kvevict/core/workspace.hpp>
#include <kvevict/cpu/detail/scan.hpp>

/// Search for the score that separates what stays from what goes, over one row or a pool of rows.
///
///     1  a sample says between which two keys the threshold lies, very likely
///     2  one pass over the scores counts what is above, and copies the few keys in between
///     3  bisection over those finds the threshold; counting is all it does, so floors cost nothing
///
/// Where the sample was wrong, the keys in between are all there are. The result never depends on the sample.
namespace kvevict::detail {

/// Evictable scores of one row, and the least number of them that must stay.
struct candidates {
  const float* scores = nullptr;
  index_t count = 0;
  index_t floor = 0;
};

struct threshold {
  std::int32_t key = lowest_key;  ///< order_key of the threshold
  offset_t ties_to_take = 0;      ///< among candidates equal to it, over all rows in order
};

/// Scratch for a search, and what it leaves per row: how many candidates are above the threshold, how many equal it.
struct search_scratch {
  std::int32_t* keys;  ///< between the brackets, whole blocks per row
  offset_t room;
  offset_t* first;  ///< [rows + 1]: where a row's keys start
  index_t* above;   ///< [rows]
  index_t* equal;   ///< [rows]

  static search_scratch take(carver& from, index_t rows, index_t longest) {
    search_scratch s{};
    const offset_t padding = static_cast<offset_t>(rows) * scan_block;
    const offset_t all = static_cast<offset_t>(rows) * longest;
    s.room = greatest(all / 4, least<offset_t>(all, 8192)) + 2 * padding;
    s.keys = from.take<std::int32_t>(s.room);
    s.first = from.take<offset_t>(rows + 1);
    s.above = from.take<index_t>(rows);
    s.equal = from.take<index_t>(rows);
    return s;
  }
};

/// The largest key t in low .. high for which reached(t) >= wanted; reached falls with t and low is known to do.
template <class Reached>
[[nodiscard]] std::int32_t highest_reaching(std::int32_t low, std::int32_t high, double wanted,
                                            const Reached& reached) {
  while (low < high) {
    const auto half = (static_cast<offset_t>(high) - low + 1) / 2;
    const auto middle = static_cast<std::int32_t>(low + half);
    if (reached(middle) >= wanted)
      low = middle;
    else
      high = middle - 1;
  }
  return low;
}

/// Keys of a sample, about: enough for a narrow bracket, few against a pass over all.
[[nodiscard]] inline double sample_size(offset_t all) {
  return static_cast<double>(least<offset_t>(2048, greatest<offset_t>(256, all / 64)));
}

/// Fewer candidates are looked at one by one.
inline constexpr offset_t least_sampled = 512;

struct bracket {
  std::int32_t low = lowest_key, high = highest_key;
};

/// Where the threshold lies, four standard deviations of a sample wide to each side.
template <class Candidates>
[[nodiscard]] bracket sampled_bracket(const Candidates& of, index_t rows, offset_t all, offset_t total,
                                      const search_scratch& scratch) {
  const auto drawn_of = [&](const candidates& row) {  // whole blocks, so that counting needs no end
    const auto share =
        static_cast<index_t>(sample_size(all) * static_cast<double>(row.count) / static_cast<double>(all) / scan_block);
    return least(greatest(1, share) * scan_block, row.count / scan_block * scan_block);
  };
  offset_t taken = 0;
  for (index_t r = 0; r < rows; ++r) {
    const candidates row = of(r);
    const index_t drawn = drawn_of(row);
    const index_t step = drawn > 0 ? row.count / drawn : 0;
    for (index_t i = 0; i < drawn; ++i) scratch.keys[taken + i] = order_key(row.scores[i * step]);
    scratch.first[r] = taken;
    taken += drawn;
  }
  const auto reached = [&](std::int32_t t) {
    double sum = 0;
    for (index_t r = 0; r < rows; ++r) {
      const candidates row = of(r);
      const index_t drawn = drawn_of(row);
      const double found =
          drawn > 0
              ? static_cast<double>(count_at_least(scratch.keys + scratch.first[r], drawn / scan_block, t)) / drawn
              : 1.0;
      sum += std::max(static_cast<double>(row.floor), found * row.count);
    }
    return sum;
  };
  const double share = static_cast<double>(total) / static_cast<double>(all), m = static_cast<double>(taken);
  const double margin = (4 * std::sqrt(m * share * (1 - share)) + 2) * static_cast<double>(all) / m;
  const double most = static_cast<double>(total) + margin, least_wanted = static_cast<double>(total) - margin;
  bracket b;
  if (least_wanted > 0) b.high = highest_reaching(lowest_key, highest_key, least_wanted, reached);
  if (most < static_cast<double>(all)) b.low = highest_reaching(lowest_key, b.high, most, reached);
  return b;
}

/// Counts what is above and inside a bracket, row by row, and copies what is inside while there is room. Returns
/// whether there was.
template <class Candidates>
[[nodiscard]] bool filter(const Candidates& of, index_t rows, const bracket& b, const search_scratch& s) {
  offset_t used = 0;
  bool all_there = true;
  key_block block;
  for (index_t r = 0; r < rows; ++r) {
    const candidates row = of(r);
    s.first[r] = used;
    index_t above = 0, between = 0;
    for (index_t i = 0; i < row.count; i += scan_block) {
      block.load(row.scores + i, row.count - i);
      const std::uint32_t high = b.high == highest_key ? 0u : block.at_least(b.high + 1);
      const std::uint32_t in = block.at_least(b.low) & ~high & inside(row.count - i);
      above += static_cast<index_t>(std::popcount(high));
      between += static_cast<index_t>(std::popcount(in));
      all_there = all_there && used + 2 * scan_block <= s.room;
      if (all_there) used += write_bits(in, s.keys + used, [&](index_t j) { return block.key[j]; });
    }
    s.above[r] = above;
    s.equal[r] = between;
    if (all_there)
      while ((used - s.first[r]) % scan_block != 0) s.keys[used++] = lowest_key;
  }
  s.first[rows] = used;
  return all_there;
}

/// The largest key T such that   sum over rows of max(floor_r, candidates of r with key >= T) >= total,
/// and how many of the candidates equal to T it takes to reach the total. With all floors 0 this is the plain
/// joint top-`total`; with floors it equals "protect each row's best floor_r, then drop the lowest" (kvpress),
/// because max() only counts what the row takes anyway. 1 <= total <= sum of counts; floors sum to <= total.
template <class Candidates>
[[gnu::noinline]] threshold find_threshold(const Candidates& of, index_t rows, offset_t total,
                                           const search_scratch& s) {
  offset_t all = 0;
  for (index_t r = 0; r < rows; ++r) all += of(r).count;
  const auto sum_of = [&](const auto& count) {
    offset_t sum = 0;
    for (index_t r = 0; r < rows; ++r) sum += greatest(of(r).floor, count(r));
    return sum;
  };
  bracket b = all > least_sampled ? sampled_bracket(of, rows, all, total, s) : bracket{};
  bool copied = filter(of, rows, b, s);
  if (sum_of([&](index_t r) { return s.above[r]; }) >= total ||
      sum_of([&](index_t r) { return s.above[r] + s.equal[r]; }) < total) {
    b = {};
    copied = filter(of, rows, b, s);
  }
  const auto counted = [&](index_t r, std::int32_t t) {  // candidates of a row with key >= t, t inside the bracket
    if (t == b.low) return s.above[r] + s.equal[r];
    if (!copied) return count_at_least(of(r).scores, of(r).count, t);
    return s.above[r] +
           count_at_least(s.keys + s.first[r], static_cast<index_t>((s.first[r + 1] - s.first[r]) / scan_block), t);
  };
  const std::int32_t key = highest_reaching(b.low, b.high, static_cast<double>(total), [&](std::int32_t t) {
    return static_cast<double>(sum_of([&](index_t r) { return counted(r, t); }));
  });
  offset_t taken = 0;
  for (index_t r = 0; r < rows; ++r) {
    const index_t above = key < b.high ? counted(r, key + 1) : s.above[r];
    s.equal[r] = counted(r, key) - above;
    s.above[r] = above;
    taken += greatest(of(r).floor, above);
  }
  return {key, total - taken};
}

}  // namespace kvevict::detail
