// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <kvevict/core/workspace.hpp>
#include <kvevict/cpu/detail/listed_keys.hpp>
#include <utility>

/// Search for the score that separates what stays from what goes, over one row or a pool of rows.
///
///     1  a sample says between which two keys the threshold lies, very likely
///     2  one pass over the scores counts those above and lists those between, or only counts them if they are many
///     3  counting the few that are listed narrows that, by interpolation
///
/// until as many are above as wanted; 2 is repeated, with keys that are nearer to each other, where the list was too
/// short or the sample misled. Counting is all it does, so floors cost nothing. The result depends on no guess.
namespace kvevict::detail {

/// Scores of what may be evicted of one row, and the least number of them that must stay.
struct candidates {
  const float* scores = nullptr;
  index_t count = 0;
  index_t floor = 0;
};

/// What stays: every candidate with a key of at least `certain`, and of those just below it the first `ties`, over all
/// rows in order.
struct threshold {
  std::int32_t certain = highest_key;
  offset_t ties = 0;
};

/// Room for the list of a row, and for those of a pool of many rows together.
inline constexpr index_t most_listed = 4096, most_listed_together = 64 * most_listed;

/// Of every row: candidates at or above a key, for the two ends of a search and for the two keys that are tried, and a
/// list. When a search ends, `high` are those that are certain, and, where there are ties to take, `low` those and all
/// ties.
struct search_memory {
  index_t* low;
  index_t* high;
  index_t* lower;
  index_t* upper;
  listed_keys* lists;
  std::int32_t* keys;  ///< [rows][room]
  index_t room;

  static search_memory take(carver& from, index_t rows) {
    const index_t share = most_listed_together / greatest(1, rows) / scan_block * scan_block;
    search_memory m{};
    m.room = least(most_listed, greatest(2 * scan_block, share));
    for (index_t** counts : {&m.low, &m.high, &m.lower, &m.upper}) *counts = from.take<index_t>(rows);
    m.lists = from.take<listed_keys>(rows);
    m.keys = from.take<std::int32_t>(static_cast<offset_t>(rows) * m.room);
    return m;
  }
};

/// Fewer blocks are not worth a sample.
inline constexpr offset_t least_sampled = 24;

/// How many of `all` candidates lie between the threshold and where a sample of one in `step` may see it.
[[nodiscard]] inline double sample_margin(offset_t all, offset_t total, index_t step) {
  const double share = static_cast<double>(total) / static_cast<double>(all);
  return (2.5 * std::sqrt(static_cast<double>(all) / step * share * (1 - share)) + 1) * step;
}

/// Two keys around the threshold, by samples of all rows.
[[nodiscard]] inline key_pair sampled_bracket(const span<const candidates>& of, const listed_keys* samples,
                                              offset_t all, offset_t total, double margin) {
  const auto reached = [&](std::int32_t t) {
    double sum = 0;
    for (index_t r = 0; r < of.size(); ++r) {
      const listed_keys& s = samples[r];
      const double share = s.count > 0 ? static_cast<double>(s.at_least(t)) / s.count : 0.0;
      sum += std::max(static_cast<double>(of[r].floor), share * of[r].count);
    }
    return sum;
  };
  std::int32_t lowest = highest_key, highest = lowest_key;
  for (index_t r = 0; r < of.size(); ++r) samples[r].embrace(lowest, highest);
  const auto find = [&](double wanted, std::int32_t high, double at_high) -> key_pair {  // nearly
    key_range range{lowest, high, static_cast<double>(all) - wanted, wanted - at_high};
    while (range.open()) {
      const std::int32_t t = range.next();
      const double over = reached(t) - wanted;
      if (std::abs(over) <= margin / 4) return {t, t};
      range.narrow({t, t}, over, over);
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
      memory.lists[r] = {memory.keys + static_cast<offset_t>(r) * memory.room, memory.room};
      at_low_ += of[r].count;
      at_high_ += of[r].floor;
    }
    listable_ =
        least(at_low_ / 4, greatest(offset_t{memory.lists[0].last_start()}, rows() * offset_t{memory.room} / 2));
    range_.excess = over(at_low_);
    range_.shortage = -over(at_high_);
  }

  [[nodiscard]] bool all_stay() const { return at_low_ == total_; }
  [[nodiscard]] bool done() const { return at_high_ == total_ || !range_.open(); }
  [[nodiscard]] threshold found() const { return {range_.high, total_ - at_high_}; }

  /// First: where a sample points to; of few candidates all are listed.
  template <class Each>
  void start(const Each& each) {
    if (done()) return;
    const offset_t all = at_low_, blocks = all / scan_block;
    const bool few = blocks < least_sampled;
    auto step = few ? 1 : static_cast<index_t>(std::sqrt(static_cast<double>(blocks)));
    for (const candidates& row : of_) step = greatest(step, row.count / (memory_.room - scan_block) + 1);
    for (index_t r = 0; r < rows(); ++r) memory_.lists[r].sample({of_[r].scores, of_[r].count}, step);
    if (step == 1) return search_lists();
    const double margin = sample_margin(all, total_, step);
    const bool list = 2 * margin < static_cast<double>(blocks) / 2;  // otherwise most blocks have keys to list
    try_keys(range_.inside(sampled_bracket(of_, memory_.lists, all, total_, margin)), list, each);
  }

  /// While not done: two keys, as far from each other as would do if what is left lay at random. Where that has not
  /// helped, many keys may be equal at an end: then its neighbour is tried, and what is left is listed, if it is
  /// little.
  template <class Each>
  void go_on(const Each& each) {
    const offset_t left = at_low_ - at_high_;
    const bool list = left <= listable_;
    const double part = 3 * std::sqrt(range_.share() * (1 - range_.share()) / static_cast<double>(left));
    key_pair tried = range_.around_next(greatest(part, 1.0 / 16));
    const bool all_that_is_left = list && range_.last != 0;
    if (range_.last < 0 || all_that_is_left) tried.lower = range_.low + 1;
    if (range_.last > 0 || all_that_is_left) tried.upper = range_.high - 1;
    try_keys(tried, list, each);
  }

 private:
  [[nodiscard]] index_t rows() const { return static_cast<index_t>(of_.size()); }
  /// What lies on a straight line is nearly the logarithm of a count, for what stays is the tail of a distribution.
  /// This is nearly the logarithm of a ratio.
  [[nodiscard]] double over(offset_t at) const {
    return static_cast<double>(at - total_) / static_cast<double>(at + total_);
  }
  [[nodiscard]] offset_t reached(const index_t* counted) const {
    offset_t sum = 0;
    for (index_t r = 0; r < rows(); ++r) sum += greatest(of_[r].floor, counted[r]);
    return sum;
  }

  /// Narrows the range by what was counted; says whether that was enough and too little above the two keys, so that
  /// the threshold lies between them.
  bool take(const key_pair& tried) {
    const offset_t at_lower = reached(memory_.lower), at_upper = reached(memory_.upper);
    const bool above = at_upper > total_, below = at_lower <= total_;  // the threshold
    range_.narrow(tried, over(at_lower), over(at_upper));
    if (!below) {
      at_low_ = above ? at_upper : at_lower;
      std::swap(memory_.low, above ? memory_.upper : memory_.lower);
    }
    if (!above) {
      at_high_ = below ? at_lower : at_upper;
      std::swap(memory_.high, below ? memory_.lower : memory_.upper);
    }
    return !above && !below;
  }

  template <class Each>
  void try_keys(const key_pair& tried, bool list, const Each& each) {
    each(rows(), [&](index_t r) {
      listed_keys& to = memory_.lists[r];
      if (list)
        to.between(tried, {of_[r].scores, of_[r].count});
      else
        to.only_count(tried, {of_[r].scores, of_[r].count});
      memory_.upper[r] = to.above;
      memory_.lower[r] = to.above + to.count;
    });
    if (!take(tried) || !list) return;
    for (index_t r = 0; r < rows(); ++r)
      if (!memory_.lists[r].complete()) listable_ = (at_low_ - at_high_) / 4, list = false;
    if (list) search_lists();
  }
  /// To its end, where all that matters is listed.
  void search_lists() {
    while (!done()) {
      const std::int32_t t = range_.next();
      for (index_t r = 0; r < rows(); ++r)
        memory_.lower[r] = memory_.upper[r] = memory_.lists[r].above + memory_.lists[r].at_least(t);
      take({t, t});
    }
  }

  span<const candidates> of_;
  offset_t total_;
  search_memory& memory_;
  key_range range_{lowest_key, highest_key, 0, 0};
  offset_t listable_ = 0;              ///< of so many keys a list is worth it, and likely to find room
  offset_t at_low_ = 0, at_high_ = 0;  ///< candidates at or above the ends, floors included
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
  search.start(each);
  while (!search.done()) search.go_on(each);
  return search.found();
}

/// The same of one row without a floor.
[[nodiscard]] inline threshold find_threshold(const float* scores, index_t count, index_t total) {
  index_t low = 0, high = 0, lower = 0, upper = 0;
  listed_keys list;
  std::int32_t keys[most_listed];
  search_memory memory{&low, &high, &lower, &upper, &list, keys, most_listed};
  const candidates row{scores, count, 0};
  return find_threshold({&row, 1}, total, memory, [](index_t, const auto& f) { f(0); });
}

}  // namespace kvevict::detail
