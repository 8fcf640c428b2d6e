// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/score/scorer.hpp>
#include <kvevict/view/ranks.hpp>
#include <utility>

namespace kvevict::detail {

/// A place among the heads of all ranks that the cache fits into.
template <class Sum>
[[nodiscard]] constexpr status check_place(const rank_view<Sum>& ranks, const cache_shape& shape) {
  if (ranks.first_kv_head < 0 || ranks.kv_heads < 1 || ranks.first_kv_head > ranks.kv_heads - shape.kv_heads)
    return {status_code::bad_shape, "ranks", "the kv_heads of the cache are not inside those of all ranks"};
  return {};
}

/// The same, and a policy that can be shared.
template <class Policy, class Inputs>
[[nodiscard]] status check_ranks(const Inputs& in) {
  static_assert(!Inputs::template has<input_kind::budget_pools>,
                "kvevict: ranks share the kv_heads of a layer; pools of one's own cannot cross them");
  static_assert(!score::layer_wide<std::remove_cvref_t<decltype(std::declval<const Policy&>().scorer())>>,
                "kvevict: score::layer_mean crosses the kv_heads of all ranks, but no scores leave a rank");
  return check_place(in.template get<input_kind::ranks>(), in.cache.shape());
}

}  // namespace kvevict::detail
