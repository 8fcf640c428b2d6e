// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <kvevict/core/amount.hpp>
#include <kvevict/cuda/score/kernel.hpp>
#include <kvevict/score/position.hpp>

/// Scores from positions and from chance: bit for bit what the CPU gives, except those of slots that take part in a
/// draw, which go through the device's logarithm and exponential (a few units in the last place).
namespace kvevict::detail {

template <>
struct source_program<score::recency> {
  static void plan(const score::recency&, const program_extent&, carver&) {}
  template <class Program>
  KVEVICT_HOST_DEVICE static void run(const Program& p, const score::recency&, float* out, carver) {
    const row_positions position = positions_of(p.in, p.row.row);
    const index_t first = greatest(0, p.row.seen - score::recency::exact_tokens);
    const auto scores = p.b.global(out, p.row.length);
    p.write(scores, [&](int, index_t j) { return static_cast<float>(position(j) - first); });
    p.b.sync();
  }
};

template <>
struct source_program<score::random> {
  static void plan(const score::random&, const program_extent&, carver&) {}
  template <class Program>
  KVEVICT_HOST_DEVICE static void run(const Program& p, const score::random& s, float* out, carver) {
    const std::uint64_t stream = stream_of(p.in, p.row.row);
    const row_positions position = positions_of(p.in, p.row.row);
    const auto scores = p.b.global(out, p.row.length);
    p.write(scores, [&](int, index_t j) {
      return score::uniform_number(s.seed, stream, static_cast<std::uint64_t>(position(j)));
    });
    p.b.sync();
  }
};

/// The slot behind the last of the first `limit.ties` scores whose key is the limit's: every thread counts a stretch.
template <class Program>
[[nodiscard]] KVEVICT_HOST_DEVICE index_t end_of_ties(const Program& p, const float* scores, index_t count,
                                                      row_threshold limit) {
  auto& b = p.b;
  const auto stretch = static_cast<index_t>((static_cast<offset_t>(count) + b.threads() - 1) / b.threads());
  const auto last_of = [&](int t) {
    return static_cast<index_t>(least<offset_t>(count, (static_cast<offset_t>(t) + 1) * stretch));
  };
  const auto first_of = [&](int t) {
    return static_cast<index_t>(least<offset_t>(count, static_cast<offset_t>(t) * stretch));
  };
  auto own = b.template make_local<index_t>(), before = b.template make_local<index_t>();
  b.each([&](int t) {
    own[t] = 0;
    for (index_t j = first_of(t); j < last_of(t); ++j) own[t] += radix_key(scores[j]) == limit.key ? 1 : 0;
  });
  exclusive_sums<index_t>(b, own, before, p.shared.digits.of_warps);
  b.each([&](int t) {
    if (before[t] >= limit.ties || before[t] + own[t] < limit.ties) return;
    index_t tie = before[t], j = first_of(t);
    for (; tie < limit.ties; ++j) tie += radix_key(scores[j]) == limit.key ? 1 : 0;
    p.shared.digits.found.store(t, 0, j);
  });
  b.sync();
  b.each([&](int t) { own[t] = p.shared.digits.found.load(t, 0); });
  b.sync();
  return b.uniform(own);
}

template <>
struct stage_program<score::random_share> : plain_stage_program<score::random_share> {
  template <class Program>
  KVEVICT_HOST_DEVICE static void run(const Program& p, const score::random_share& s, float* out, carver) {
    auto& b = p.b;
    const index_t sinks = p.row.sinks, count = p.row.length - sinks - p.row.recent;
    const index_t free_budget = least(p.row.budget, p.row.length) - sinks - p.row.recent;
    const auto drawn = static_cast<index_t>(static_cast<offset_t>(millionths(s.share)) * free_budget / 1000000);
    const index_t certain = free_budget - drawn;
    if (drawn < 1) return;

    row_threshold limit{~0u, 0};  // above every key
    index_t last_tie = 0;
    if (certain > 0) {
      limit = find_threshold(b, out + sinks, count, certain, p.shared.digits);
      last_tie = end_of_ties(p, out + sinks, count, limit);
    }
    const std::uint64_t stream = stream_of(p.in, p.row.row);
    const row_positions position = positions_of(p.in, p.row.row);
    const auto temperature = static_cast<float>(s.temperature);
    const auto scores = b.global(out, p.row.length);
    p.each(count, [&](int t, index_t j) {
      const float score = scores.load(t, sinks + j);
      const std::uint32_t key = radix_key(score);
      if (key > limit.key || (key == limit.key && j < last_tie)) return;
      const float u = score::uniform_number(s.seed, stream, static_cast<std::uint64_t>(position(sinks + j)));
      scores.store(t, sinks + j, std::log(u) * std::exp(-score / temperature));
    });
    b.sync();
  }
};

}  // namespace kvevict::detail
