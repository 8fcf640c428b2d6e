// SPDX-License-Identifier: MIT
#pragma once

#include <bit>
#include <cstdint>
#include <kvevict/score/scorer.hpp>

/// Scores that read no key: from positions, or from chance.
namespace kvevict::score {

/// The slot's position (its slot where no positions are passed): later is better. A float tells 2^24 whole numbers
/// apart, so a sequence of more tokens is counted from 2^24 tokens before its end: the order of the latest 2^24 is
/// exact, older ones are below them and rounded.
struct recency {
  static constexpr bool per_query_head = false;
  friend constexpr bool operator==(const recency&, const recency&) = default;

  static constexpr index_t exact_tokens = 1 << 24;
};

/// A number in (0, 1] that is a pure function of (seed, stream, counter): the same on every backend, in any order.
/// Two rounds of the splitmix64 finaliser; the result is a multiple of 2^-24.
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr float uniform_number(std::uint64_t seed, std::uint64_t stream,
                                                                 std::uint64_t counter) {
  const auto mix = [](std::uint64_t x) {
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
  };
  const std::uint64_t bits = mix(mix(seed ^ mix(stream)) + counter);
  return static_cast<float>((bits >> 40) + 1) * 0x1p-24F;
}

/// The stream of a row: distinct for every (layer of the model, sequence, kv_head).
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr std::uint64_t row_stream(const cache_shape& shape, const row_id& row) {
  const auto layer = static_cast<std::uint64_t>(shape.first_layer + row.layer);
  return (layer << 42) ^ (static_cast<std::uint64_t>(row.seq) << 21) ^ static_cast<std::uint64_t>(row.kv_head);
}

/// Uniform chance: the baseline that every policy should beat.
struct random {
  static constexpr bool per_query_head = false;
  std::uint64_t seed = 0;
  friend constexpr bool operator==(const random&, const random&) = default;
};

/// NACL's random eviction (arXiv 2408.03675): of the free budget (without sinks and recent), the share `1 - share`
/// goes to the highest scores; the rest is drawn without replacement from the other evictable slots with
/// probability proportional to exp(score / temperature). Drawing is an exponential race: slots that are not
/// deterministic winners get the score  log(u_j) exp(-score_j / temperature) < 0, so that the highest stay. Winners
/// keep theirs, so it is for scores that are not negative, as those from attention.
struct random_share {
  static constexpr bool reduces_group = false;
  double share = 0.25;  ///< 0 .. 1
  double temperature = 1;
  std::uint64_t seed = 0;
  friend constexpr bool operator==(const random_share&, const random_share&) = default;

  [[nodiscard]] constexpr status check() const {
    if (!(share >= 0 && share <= 1)) return {status_code::bad_option, "random", "random must be a share from 0 to 1"};
    if (!(temperature > 0)) return {status_code::bad_option, "temperature", "temperature must be above 0"};
    return {};
  }
};

}  // namespace kvevict::score

namespace kvevict::detail {

/// The stream of chance of a row. A sequence with a state of its own draws the same alone and in any batch.
template <class Inputs>
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr std::uint64_t stream_of(const Inputs& in, row_id row) {
  if constexpr (Inputs::template has<input_kind::positions>)
    if constexpr (requires { in.template get<input_kind::positions>().sequence(row); })
      row.seq = in.template get<input_kind::positions>().sequence(row);
  if constexpr (Inputs::template has<input_kind::ranks>)
    row.kv_head += in.template get<input_kind::ranks>().first_kv_head;
  return score::row_stream(in.cache.shape(), row);
}

}  // namespace kvevict::detail
