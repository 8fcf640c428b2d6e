// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/budget/exchange.hpp>
#include <kvevict/core/workspace.hpp>
#include <kvevict/cpu/backend.hpp>
#include <kvevict/cpu/budget/adaptive.hpp>
#include <kvevict/policy/ranks.hpp>

/// Joint budgets over the kv_heads of several ranks, from what they add up (budget/exchange.hpp).
namespace kvevict::detail {

struct rank_scratch {
  std::int64_t* numbers;  ///< what is summed: [pools][histogram_numbers], or [pools][all heads][head_numbers]
  offset_t count;
  std::uint32_t* bins;    ///< [local rows][digit_bins]
  index_t* above;         ///< [local rows]
  std::uint32_t* prefix;  ///< [pools]
  offset_t* total;        ///< [pools]
  index_t* share;         ///< [all heads]
  offset_t* remainder;    ///< [all heads]

  static rank_scratch take(carver& from, const cache_shape& shape, index_t heads) {
    const offset_t pools = static_cast<offset_t>(shape.layers) * shape.seqs;
    rank_scratch s{};
    s.count = pools * greatest<offset_t>(histogram_numbers, static_cast<offset_t>(heads) * head_numbers);
    s.numbers = from.take<std::int64_t>(s.count);
    s.bins = from.take<std::uint32_t>(shape.rows() * digit_bins);
    s.above = from.take<index_t>(shape.rows());
    s.prefix = from.take<std::uint32_t>(pools);
    s.total = from.take<offset_t>(pools);
    s.share = from.take<index_t>(heads);
    s.remainder = from.take<offset_t>(heads);
    return s;
  }
};

/// One row's histogram of a digit among the candidates that share the digits before it.
inline void count_digit(const candidates& row, int shift, std::uint32_t prefix, std::uint32_t* bins) {
  for (index_t b = 0; b < digit_bins; ++b) bins[b] = 0;
  for (index_t i = 0; i < row.count; ++i) {
    const std::uint32_t key = radix_key(row.scores[i]);
    if (shift == 24 || (key >> (shift + 8)) == (prefix >> (shift + 8))) ++bins[(key >> shift) & 0xffu];
  }
}

/// Final budgets of the local rows. `row(r)` is a pool_row; false where an all-reduce failed.
template <class Executor, class Rule, class Row, class Sum>
[[nodiscard]] bool share_across(const cpu<Executor>& on, const Rule& rule, const cache_shape& shape,
                                const rank_view<Sum>& ranks, const Row& row, index_t* budgets, const rank_scratch& s) {
  const index_t pools = shape.layers * shape.seqs, local = shape.kv_heads, heads = ranks.kv_heads;
  for (index_t pool = 0; pool < pools; ++pool) s.prefix[pool] = 0;
  for (index_t r = 0; r < shape.rows(); ++r) s.above[r] = 0;

  for (int round = 0; round < digit_rounds; ++round) {
    const int shift = digit_shift(round);
    on.how.run(pools, [&](index_t pool, index_t) {
      std::int64_t* numbers = s.numbers + static_cast<offset_t>(pool) * histogram_numbers;
      for (index_t i = 0; i < histogram_numbers; ++i) numbers[i] = 0;
      for (index_t r = pool * local; r < (pool + 1) * local; ++r) {
        std::uint32_t* bins = s.bins + static_cast<offset_t>(r) * digit_bins;
        const candidates c = candidates_of(rule, row(r));
        count_digit(c, shift, s.prefix[pool], bins);
        numbers[reached_above] += greatest(c.floor, s.above[r]);
        numbers[free_budgets] += row(r).free_budget();
        numbers[rooms] += row(r).room();
        index_t reached = s.above[r];
        for (index_t b = digit_bins - 1; b >= 0; --b) {
          const index_t with_bin = reached + static_cast<index_t>(bins[b]);
          numbers[b] += greatest(c.floor, with_bin) - greatest(c.floor, reached);
          reached = with_bin;
        }
      }
    });
    if (!ranks.sum(span<std::int64_t>{s.numbers, static_cast<offset_t>(pools) * histogram_numbers})) return false;
    on.how.run(pools, [&](index_t pool, index_t) {
      const std::int64_t* numbers = s.numbers + static_cast<offset_t>(pool) * histogram_numbers;
      s.total[pool] = least(numbers[free_budgets], numbers[rooms]);
      offset_t reached = numbers[reached_above];
      index_t bin = digit_bins - 1;
      for (; bin > 0 && reached + numbers[bin] < s.total[pool]; --bin) reached += numbers[bin];
      s.prefix[pool] |= static_cast<std::uint32_t>(bin) << shift;
      for (index_t r = pool * local; r < (pool + 1) * local; ++r)
        for (index_t b = digit_bins - 1; b > bin; --b)
          s.above[r] += static_cast<index_t>(s.bins[static_cast<offset_t>(r) * digit_bins + b]);
    });
  }

  const offset_t count = static_cast<offset_t>(pools) * heads * head_numbers;
  for (offset_t i = 0; i < count; ++i) s.numbers[i] = 0;
  for (index_t r = 0; r < shape.rows(); ++r) {
    const index_t pool = r / local, head = ranks.first_kv_head + r % local;
    std::int64_t* numbers = s.numbers + (static_cast<offset_t>(pool) * heads + head) * head_numbers;
    const candidates c = candidates_of(rule, row(r));
    const auto equal = s.bins[static_cast<offset_t>(r) * digit_bins + static_cast<index_t>(s.prefix[pool] & 0xffu)];
    write_counts({s.above[r], static_cast<index_t>(equal), c.floor, row(r).free_budget(), c.count}, numbers);
  }
  if (!ranks.sum(span<std::int64_t>{s.numbers, count})) return false;
  for (index_t pool = 0; pool < pools; ++pool) {
    const std::int64_t* numbers = s.numbers + static_cast<offset_t>(pool) * heads * head_numbers;
    const auto counts = [&](index_t head) { return read_counts(numbers + head * head_numbers); };
    for (index_t head = 0; head < heads; ++head) s.share[head] = 0;
    if (s.total[pool] > 0) split_pool(rule, heads, s.total[pool], counts, s.share, s.remainder);
    for (index_t h = 0; h < local; ++h)
      budgets[pool * local + h] = row(pool * local + h).kept.count() + s.share[ranks.first_kv_head + h];
  }
  return true;
}

/// One number: how many ranks refuse the call. `mine` if this rank does; otherwise ok, or that another one did.
template <class Sum>
[[nodiscard]] status agree(const rank_view<Sum>& ranks, const status& mine) {
  static_assert(rank_sum<Sum>, "kvevict: on the CPU ranks need a sum(span<std::int64_t>), for instance mpi_sum");
  std::int64_t refusing = mine.ok() ? 0 : 1;
  const bool summed = ranks.sum(span<std::int64_t>{&refusing, 1});
  if (!mine.ok()) return mine;
  if (!summed) return {status_code::bad_input, "ranks", "the all-reduce failed"};
  if (refusing > 0) return {status_code::bad_input, "ranks", "another rank refused its part of the call"};
  return {};
}

}  // namespace kvevict::detail
