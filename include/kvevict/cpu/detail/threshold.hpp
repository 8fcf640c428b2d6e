// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <kvevict/core/workspace.hpp>
#include <kvevict/cpu/detail/scan.hpp>
#include <utility>

/// Search for the score that separates what stays from what goes, over one row or a pool of rows.
///
///     1  some blocks say between which two keys the threshold lies, very likely
///     2  counting all keys narrows that, by interpolation, until as many are above as wanted
///
/// Counting is all it does, so floors cost nothing. The result never depends on the blocks of step 1.
namespace kvevict::detail {

/// Keys of what may be evicted of one row, in whole blocks, and the least number of them that must stay.
struct candidates {
  const std::int32_t* keys = nullptr;
  index_t count = 0;
  index_t floor = 0;
};

/// What stays: every candidate with a key of at least `certain`, and of those just below it the first `ties`, over all
/// rows in order.
struct threshold {
  std::int32_t certain = highest_key;
  offset_t ties = 0;
};

/// Candidates of every row at or above a key, for the two ends of a search and the key that is tried. When a search
/// ends, `high` are those that are certain, and, where there are ties to take, `low` those and all ties.
struct search_counts {
  index_t* low;
  index_t* high;
  index_t* tried;
  index_t* lower;  ///< of the lower of two that are tried at once

  static search_counts take(carver& from, index_t rows) {
    return {from.take<index_t>(rows), from.take<index_t>(rows), from.take<index_t>(rows), from.take<index_t>(rows)};
  }
};

/// Two keys around the one where a falling count meets `wanted`, and the next to try.
struct key_range {
  std::int32_t low, high;   ///< the count is above `wanted` at the lower, and no more than it at the upper key
  double excess, shortage;  ///< by how much; halved each time the other end has moved twice
  index_t round = 0, last = 0;

  [[nodiscard]] offset_t width() const { return static_cast<offset_t>(high) - low; }
  [[nodiscard]] bool open() const { return width() > 1; }

  /// Where a straight line between the ends meets it (Illinois rule); when that has not helped for a while, the middle
  /// every other time, so that no distribution makes a search long.
  [[nodiscard]] std::int32_t next() const {
    const double share = round > 7 && round % 2 == 0 ? 0.5 : excess / (excess + shortage);
    const auto step = static_cast<offset_t>(static_cast<double>(width()) * share);
    return static_cast<std::int32_t>(low + std::clamp<offset_t>(step, 1, width() - 1));
  }
  /// The count at t is `over` above `wanted`.
  void narrow(std::int32_t t, double over) {
    const index_t end = over > 0 ? 1 : -1;
    if (end == last) (over > 0 ? shortage : excess) /= 2;
    if (over > 0)
      low = t, excess = over;
    else
      high = t, shortage = -over;
    last = end;
    ++round;
  }
};

/// Fewer blocks are not worth a sample.
inline constexpr offset_t least_sampled = 8;

/// Two keys around the threshold, by the candidates of every `step`-th block.
[[nodiscard]] inline std::pair<std::int32_t, std::int32_t> sampled_bracket(const span<const candidates>& of,
                                                                           offset_t all, offset_t total, index_t step) {
  const auto reached = [&](std::int32_t t) {
    double sum = 0;
    for (const candidates& row : of) {
      const index_t blocks = blocks_of(row.count), drawn = (blocks + step - 1) / step * scan_block;
      const double found = row.count > 0 ? static_cast<double>(count_at_least(row.keys, blocks, t, step)) / drawn : 0.0;
      sum += std::max(static_cast<double>(row.floor), found * row.count);
    }
    return sum;
  };
  const double share = static_cast<double>(total) / static_cast<double>(all);
  const double sample = static_cast<double>(all) / step;
  const double margin = (2 * std::sqrt(sample * share * (1 - share)) + 1) * step;
  std::int32_t lowest = highest_key, highest = lowest_key;
  for (const candidates& row : of) embrace_keys(row.keys, row.count / scan_block, step, lowest, highest);
  const auto find = [&](double wanted, std::int32_t high, double at_high) {  // to within half the margin
    key_range range{lowest, high, static_cast<double>(all) - wanted, wanted - at_high};
    while (range.open()) {
      const std::int32_t t = range.next();
      const double over = reached(t) - wanted;
      if (std::abs(over) <= margin / 2) return t;
      range.narrow(t, over);
    }
    return range.low;
  };
  const double most = static_cast<double>(total) + margin, least_wanted = static_cast<double>(total) - margin;
  const std::int32_t upper = least_wanted > 0 ? find(least_wanted, highest, 0) : highest_key;
  const std::int32_t lower =
      most < static_cast<double>(all) ? find(most, upper, greatest(0.0, least_wanted)) : lowest_key;
  return {lower, upper};
}

/// The threshold for which   sum over rows of max(floor_r, candidates of r that stay) = total.   With all floors 0 this
/// is the plain joint top-`total`; with floors it equals "protect each row's best floor_r, then drop the lowest"
/// (kvpress), because max() only counts what the row takes anyway. 1 <= total <= sum of counts; floors sum to <= total.
/// `each(n, f)` calls f(r) for every row r below n, on however many threads.
template <class Each>
[[gnu::noinline]] threshold find_threshold(const span<const candidates>& of, offset_t total, search_counts& counts,
                                           const Each& each) {
  offset_t all = 0, at_high = 0, blocks = 0;
  for (index_t r = 0; r < of.size(); ++r) {
    counts.low[r] = of[r].count;
    counts.high[r] = 0;
    all += of[r].count;
    at_high += of[r].floor;
    blocks += blocks_of(of[r].count);
  }
  if (all == total) {  // everything stays
    std::swap(counts.low, counts.high);
    return {lowest_key, 0};
  }
  key_range range{lowest_key, highest_key, static_cast<double>(all - total), static_cast<double>(total - at_high)};
  const auto rows = static_cast<index_t>(of.size());
  const auto take_counted = [&](std::int32_t t, index_t*& counted) {
    offset_t at = 0;
    for (index_t r = 0; r < rows; ++r) at += greatest(of[r].floor, counted[r]);
    range.narrow(t, static_cast<double>(at - total));
    if (at <= total) at_high = at;
    std::swap(at > total ? counts.low : counts.high, counted);
  };
  const auto try_key = [&](std::int32_t t) {
    if (t <= range.low || t >= range.high) return;
    each(rows, [&](index_t r) { counts.tried[r] = count_at_least(of[r].keys, blocks_of(of[r].count), t); });
    take_counted(t, counts.tried);
  };
  if (blocks >= least_sampled && at_high < total) {
    const auto step = static_cast<index_t>(std::sqrt(static_cast<double>(blocks)));
    const auto bracket = sampled_bracket(of, all, total, step);
    const std::int32_t lower = bracket.first, upper = bracket.second;
    if (range.low < lower && lower < upper && upper < range.high) {  // in one pass over the keys
      each(rows, [&](index_t r) {
        count_at_least(of[r].keys, blocks_of(of[r].count), lower, upper, counts.lower[r], counts.tried[r]);
      });
      take_counted(upper, counts.tried);
      if (lower > range.low) take_counted(lower, counts.lower);
    } else {
      try_key(upper);
      try_key(lower);
    }
  }
  while (at_high != total && range.open()) try_key(range.next());
  return {range.high, total - at_high};
}

/// The same of one row without a floor.
[[nodiscard]] inline threshold find_threshold(const std::int32_t* keys, index_t count, index_t total) {
  index_t low = 0, high = 0, tried = 0, lower = 0;
  search_counts counts{&low, &high, &tried, &lower};
  const candidates row{keys, count, 0};
  return find_threshold({&row, 1}, total, counts, [](index_t, const auto& f) { f(0); });
}

}  // namespace kvevict::detail
