// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/score/scorer.hpp>

/// Scorers of scorers, and the normalisations that make scores of different kinds comparable.
namespace kvevict::score {

/// a * b, slot by slot; both per kv_head. Nothing is normalised: append a normalisation to a factor if wanted.
template <source A, source B>
struct product {
  static_assert(!A::per_query_head && !B::per_query_head,
                "kvevict: reduce the group (for instance | score::group_mean{}) before combining scorers");
  static_assert(!layer_wide<A> && !layer_wide<B>, "kvevict: score::layer_mean must be the last stage of a scorer");
  static constexpr bool per_query_head = false;
  A a;
  B b;
  friend constexpr bool operator==(const product&, const product&) = default;

  [[nodiscard]] constexpr status check() const {
    const status first = score::check(a);
    return first.ok() ? score::check(b) : first;
  }
};
template <class A, class B>
product(A, B) -> product<A, B>;

/// weight_a * a + weight_b * b, slot by slot; both per kv_head, normalised only as they themselves state.
template <source A, source B>
struct weighted_sum {
  static_assert(!A::per_query_head && !B::per_query_head,
                "kvevict: reduce the group (for instance | score::group_mean{}) before combining scorers");
  static_assert(!layer_wide<A> && !layer_wide<B>, "kvevict: score::layer_mean must be the last stage of a scorer");
  static constexpr bool per_query_head = false;
  A a;
  B b;
  float weight_a = 1;
  float weight_b = 1;
  friend constexpr bool operator==(const weighted_sum&, const weighted_sum&) = default;

  [[nodiscard]] constexpr status check() const {
    const status first = score::check(a);
    return first.ok() ? score::check(b) : first;
  }
};
template <class A, class B>
weighted_sum(A, B) -> weighted_sum<A, B>;
template <class A, class B>
weighted_sum(A, B, float, float) -> weighted_sum<A, B>;

/// Divides by the sum over the row (a row whose sum is 0 stays as it is): scores become shares.
struct share_of_sum {
  static constexpr bool reduces_group = false;
  friend constexpr bool operator==(const share_of_sum&, const share_of_sum&) = default;
};

/// Divides by the maximum over the row (a row whose maximum is 0 stays as it is).
struct share_of_max {
  static constexpr bool reduces_group = false;
  friend constexpr bool operator==(const share_of_max&, const share_of_max&) = default;
};

/// (offset + score)^exponent for a small whole exponent: `key_diff{} | power{.offset = 1, .exponent = 2}` is
/// (1 - cos)^2.
struct power {
  static constexpr bool reduces_group = false;
  float offset = 0;
  index_t exponent = 2;
  friend constexpr bool operator==(const power&, const power&) = default;
  [[nodiscard]] constexpr status check() const {
    if (exponent >= 1) return {};
    return {status_code::bad_option, "exponent", "the exponent of a power must be at least 1"};
  }
};

}  // namespace kvevict::score
