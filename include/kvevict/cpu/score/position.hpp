// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <kvevict/core/amount.hpp>
#include <kvevict/cpu/detail/threshold.hpp>
#include <kvevict/cpu/score/kernel.hpp>
#include <kvevict/score/position.hpp>

namespace kvevict::detail {

template <>
struct source_kernel<score::recency> {
  template <class Inputs>
  static status check(const score::recency&, const Inputs&, const score::row_context&) {
    return {};
  }
  static void plan(const score::recency&, const scratch_extent&, carver&) {}
  template <class Inputs>
  static void run(const score::recency&, const Inputs& in, const score::row_context& row, const scratch_extent&,
                  float* out, carver) {
    const row_positions position = positions_of(in, row.row);
    const index_t first = greatest(0, row.seen - score::recency::exact_tokens);
    for (index_t j = 0; j < row.length; ++j) out[j] = static_cast<float>(position(j) - first);
  }
};

template <>
struct source_kernel<score::random> {
  template <class Inputs>
  static status check(const score::random&, const Inputs&, const score::row_context&) {
    return {};
  }
  static void plan(const score::random&, const scratch_extent&, carver&) {}
  template <class Inputs>
  static void run(const score::random& s, const Inputs& in, const score::row_context& row, const scratch_extent&,
                  float* out, carver) {
    const std::uint64_t stream = stream_of(in, row.row);
    const row_positions position = positions_of(in, row.row);
    for (index_t j = 0; j < row.length; ++j)
      out[j] = score::uniform_number(s.seed, stream, static_cast<std::uint64_t>(position(j)));
  }
};

template <>
struct stage_kernel<score::random_share> {
  template <class Inputs>
  static status check(const score::random_share&, const Inputs&, const score::row_context&) {
    return {};
  }
  static void plan(const score::random_share&, const scratch_extent&, carver&) {}
  template <class Inputs>
  static void run(const score::random_share& s, const Inputs& in, const score::row_context& row, const scratch_extent&,
                  float* scores, carver) {
    const index_t last = row.length - row.recent;
    const index_t free_budget = least(row.budget, row.length) - row.sinks - row.recent;
    const auto drawn = static_cast<index_t>(static_cast<offset_t>(millionths(s.share)) * free_budget / 1000000);
    const index_t certain = free_budget - drawn;
    if (drawn < 1) return;

    threshold t{};
    if (certain > 0) t = find_threshold(scores + row.sinks, last - row.sinks, certain);
    const std::uint64_t stream = stream_of(in, row.row);
    const row_positions position = positions_of(in, row.row);
    for (index_t j = row.sinks; j < last; ++j) {
      const std::int32_t key = order_key(scores[j]);
      if (key >= t.certain || (key == t.certain - 1 && t.ties-- > 0)) continue;
      const float u = score::uniform_number(s.seed, stream, static_cast<std::uint64_t>(position(j)));
      scores[j] = std::log(u) * std::exp(-scores[j] / static_cast<float>(s.temperature));
    }
  }
};

}  // namespace kvevict::detail
