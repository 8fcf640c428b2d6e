// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>
#include <kvevict/budget/adaptive.hpp>
#include <kvevict/budget/rule.hpp>
#include <kvevict/score/scorer.hpp>
#include <kvevict/select/protect.hpp>
#include <type_traits>

namespace kvevict {

/// A policy is a value that says how to score, how many slots each row keeps, and which are never evicted.
///
///     scorer()       a score::source per kv_head
///     rule()         a budget::rule
///     protection()   a protect
///
/// The same value serves a prompt, its pieces and decode: `evict` alone (cpu/evict.hpp), or with a state per sequence
/// that `observe` keeps up (decode/state.hpp).
///
/// Policies are plain aggregates: options by name, comparable, storable, usable in a signature. An engine's own is
/// any type with these three members:
///
/// @code
/// struct unusual_keys {
///   amount budget = slots(256);
///   auto scorer() const { return score::key_diff{} | score::power{.offset = 1, .exponent = 2}; }
///   auto rule() const { return budget::uniform{budget}; }
///   protect protection() const { return {.sinks = 4, .recent = slots(32)}; }
/// };
/// static_assert(eviction_policy<unusual_keys> && eviction_policy<adakv<unusual_keys>>);
/// @endcode
template <class P>
concept eviction_policy = std::is_trivially_copyable_v<P> && requires(const P& p) {
  { p.scorer() } -> score::source;
  { p.rule() } -> budget::rule;
  { p.protection() } -> std::convertible_to<protect>;
};

/// Whether all options of a policy are in range; the status names the first that is not.
template <eviction_policy Policy>
[[nodiscard]] constexpr status check(const Policy& policy) {
  status s = score::check(policy.scorer());
  if (s.ok()) s = policy.rule().check();
  if (s.ok()) s = policy.protection().check();
  return s;
}

/// Value of a `recent` option that means "as many slots as the observation window has rows".
inline constexpr index_t as_window = -1;

/// The recent slots of a policy with an observation window.
[[nodiscard]] constexpr amount recent_or_window(index_t recent, index_t window) {
  return slots(recent == as_window ? window : recent);
}

}  // namespace kvevict
