// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <kvevict/core/workspace.hpp>
#include <kvevict/cpu/detail/key_range.hpp>
#include <kvevict/cpu/detail/scan.hpp>
#include <utility>

/// Search for the score that separates what stays from what goes, over one row or a pool of rows.
///
///     1  some blocks say between which two keys the threshold lies, very likely
///     2  counting all keys narrows that, by interpolation
///     3  when few keys are left between the two, those are listed, and only they are counted
///
/// until as many are above as wanted. Counting is all it does, so floors cost nothing. The result depends on no guess.
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

/// More rows than these are only counted, and take no memory for lists.
inline constexpr index_t most_lists = 64;

/// Of every row: candidates at or above a key, for the two ends of a search and for one or two keys that are tried, and
/// the keys between those two. When a search ends, `high` are those that are certain, and, where there are ties to
/// take, `low` those and all ties.
struct search_memory {
  index_t* low;
  index_t* high;
  index_t* lower;
  index_t* upper;
  listed_keys* between;

  static search_memory take(carver& from, index_t rows) {
    index_t* const counts[] = {from.take<index_t>(rows), from.take<index_t>(rows), from.take<index_t>(rows),
                               from.take<index_t>(rows)};
    return {counts[0], counts[1], counts[2], counts[3], from.take<listed_keys>(least(rows, most_lists))};
  }
};

/// Fewer blocks are not worth a sample.
inline constexpr offset_t least_sampled = 8;

/// Two keys around the threshold, by the candidates of every `step`-th block.
[[nodiscard]] inline key_pair sampled_bracket(const span<const candidates>& of, offset_t all, offset_t total,
                                              index_t step) {
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
  const auto find = [&](double wanted, std::int32_t high, double at_high) -> key_pair {  // to within half the margin
    key_range range{lowest, high, static_cast<double>(all) - wanted, wanted - at_high};
    while (range.open()) {
      const std::int32_t t = range.next();
      const double over = reached(t) - wanted;
      if (std::abs(over) <= margin / 2) return {t, t};
      range.narrow(t, over);
    }
    return {range.low, range.high};
  };
  const double most = static_cast<double>(total) + margin, least_wanted = static_cast<double>(total) - margin;
  const std::int32_t upper = least_wanted > 0 ? find(least_wanted, highest + 1, 0).upper : highest + 1;
  const std::int32_t lower =
      most < static_cast<double>(all) ? find(most, upper, greatest(0.0, least_wanted)).lower : lowest;
  return {lower, upper};
}

/// A search for the key above which `total` candidates are, as far as it has come. `each(n, f)` calls f(r) for every
/// row r below n, on however many threads.
class threshold_search {
 public:
  threshold_search(const span<const candidates>& of, offset_t total, search_memory& memory)
      : of_(of), total_(total), memory_(memory) {
    for (index_t r = 0; r < rows(); ++r) {
      memory.low[r] = of[r].count;
      memory.high[r] = 0;
      at_low_ += of[r].count;
      at_high_ += of[r].floor;
      blocks_ += blocks_of(of[r].count);
    }
    range_.excess = over(at_low_);
    range_.shortage = -over(at_high_);
  }

  [[nodiscard]] bool all_stay() const { return at_low_ == total_; }
  [[nodiscard]] bool done() const { return at_high_ == total_ || !range_.open(); }
  [[nodiscard]] threshold found() const { return {range_.high, total_ - at_high_}; }

  /// First, where a sample is worth its time.
  template <class Each>
  void try_sample(const Each& each) {
    if (blocks_ < least_sampled || done()) return;
    const auto step = static_cast<index_t>(std::sqrt(static_cast<double>(blocks_)));
    const key_pair tried = range_.inside(sampled_bracket(of_, at_low_, total_, step));
    each(rows(), [&](index_t r) {
      count_at_least(of_[r].keys, blocks_of(of_[r].count), tried, memory_.lower[r], memory_.upper[r]);
    });
    take(tried);
  }

  /// While not done.
  template <class Each>
  void go_on(const Each& each) {
    if (gaps_ > 1) return skip_gap(each);
    const auto between = static_cast<double>(at_low_ - at_high_);
    const double listed = 6 * std::sqrt(between * range_.share() * (1 - range_.share())) + 2;  // if they lie at random
    const bool room = rows() <= most_lists && listed <= most_listed * (rows() + 1) / 2;
    const bool worth_a_list = lists_fit_ && room && blocks_ >= 512 && listed * 8 <= static_cast<double>(blocks_);
    if (worth_a_list)
      try_list(range_.around_next(listed / 2 / between), each);
    else
      try_key(range_.next(), each);
  }

 private:
  [[nodiscard]] index_t rows() const { return static_cast<index_t>(of_.size()); }
  /// What lies on a straight line is nearly the logarithm of a count, for what stays is the tail of a distribution.
  /// This is nearly the logarithm of a ratio.
  [[nodiscard]] double over(offset_t at) const {
    return static_cast<double>(at - total_) / static_cast<double>(at + total_);
  }

  void take(std::int32_t t, index_t*& counted) {
    if (!range_.has(t)) return;
    offset_t at = 0;
    for (index_t r = 0; r < rows(); ++r) at += greatest(of_[r].floor, counted[r]);
    gaps_ = at == at_low_ || at == at_high_ ? gaps_ + 1 : 0;
    range_.narrow(t, over(at));
    (at > total_ ? at_low_ : at_high_) = at;
    std::swap(at > total_ ? memory_.low : memory_.high, counted);
  }
  void take(const key_pair& tried) {
    take(tried.upper, memory_.upper);
    range_.last = 0;  // tried at once: where both are above or below, the other end has not stayed behind twice
    take(tried.lower, memory_.lower);
  }

  template <class Each>
  void try_key(std::int32_t t, const Each& each) {
    each(rows(), [&](index_t r) { memory_.upper[r] = count_at_least(of_[r].keys, blocks_of(of_[r].count), t); });
    take(t, memory_.upper);
  }
  /// Many equal keys lie far from the next ones: the upper end goes down to them.
  template <class Each>
  void skip_gap(const Each& each) {
    gaps_ = 0;
    each(rows(),
         [&](index_t r) { memory_.upper[r] = greatest_below(of_[r].keys, blocks_of(of_[r].count), range_.high); });
    const std::int32_t next = *std::max_element(memory_.upper, memory_.upper + rows());
    range_.high = next + 1;
    if (range_.has(next)) try_key(next, each);
  }
  template <class Each>
  void try_list(const key_pair& tried, const Each& each) {
    each(rows(), [&](index_t r) {
      listed_keys& list = memory_.between[r];
      list_between(of_[r].keys, blocks_of(of_[r].count), tried, list);
      memory_.upper[r] = list.above;
      memory_.lower[r] = list.above + list.count;
    });
    take(tried);
    for (index_t r = 0; r < rows(); ++r) lists_fit_ = lists_fit_ && memory_.between[r].complete();
    const bool around = range_.low == tried.lower && range_.high == tried.upper;
    while (lists_fit_ && around && !done()) {
      const std::int32_t t = range_.next();
      for (index_t r = 0; r < rows(); ++r) memory_.upper[r] = memory_.between[r].at_least(t);
      take(t, memory_.upper);
    }
  }

  span<const candidates> of_;
  offset_t total_;
  search_memory& memory_;
  key_range range_{lowest_key, highest_key, 0, 0};
  index_t gaps_ = 0;                                ///< the last keys that were tried have none between them and an end
  bool lists_fit_ = true;                           ///< until one was too short: many keys are equal
  offset_t at_low_ = 0, at_high_ = 0, blocks_ = 0;  ///< candidates at or above the ends, floors included
};

/// The threshold for which   sum over rows of max(floor_r, candidates of r that stay) = total.   With all floors 0 this
/// is the plain joint top-`total`; with floors it equals "protect each row's best floor_r, then drop the lowest"
/// (kvpress), because max() only counts what the row takes anyway. 1 <= total <= sum of counts; floors sum to <= total.
template <class Each>
[[gnu::noinline]] threshold find_threshold(const span<const candidates>& of, offset_t total, search_memory& memory,
                                           const Each& each) {
  threshold_search search(of, total, memory);
  if (search.all_stay()) {
    std::swap(memory.low, memory.high);
    return {lowest_key, 0};
  }
  search.try_sample(each);
  while (!search.done()) search.go_on(each);
  return search.found();
}

/// The same of one row without a floor.
[[nodiscard]] inline threshold find_threshold(const std::int32_t* keys, index_t count, index_t total) {
  index_t low = 0, high = 0, lower = 0, upper = 0;
  listed_keys between;
  search_memory memory{&low, &high, &lower, &upper, &between};
  const candidates row{keys, count, 0};
  return find_threshold({&row, 1}, total, memory, [](index_t, const auto& f) { f(0); });
}

}  // namespace kvevict::detail
