// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/policy/policy.hpp>

namespace kvevict {

/// Ada-KV (arXiv 2407.11550): any policy with head-wise budgets, `adakv<snapkv<>>`, `adakv<ahakv<>>`,
/// `adakv<pyramidkv<>>` (layer budgets first, then heads).
///
/// Defaults of the authors' runs with GQA: floor 0.2, mixture. Differs from their code: totals are exact
/// (budget/adaptive.hpp), and no head's scores are normalised before they compete.
///
/// Along decode: published for the prompt only. Here the heads share anew at each eviction: the pool keeps the sum of
/// its nominal budgets, no head falls below what is protected, and a head that is short keeps all it has.
template <eviction_policy Base>
struct adakv {
  static constexpr const char* name = Base::name;  ///< printed with the prefix `ada_`
  Base base{};
  double floor = 0.2;
  budget::safeguard safeguard = budget::safeguard::mixture;

  friend constexpr bool operator==(const adakv&, const adakv&) = default;
  template <class Self, class Visit>
  static constexpr void options(Self& self, Visit&& visit) {
    Base::options(self.base, visit);
    visit("floor", self.floor);
    visit("safeguard", self.safeguard);
  }

  [[nodiscard]] constexpr auto scorer() const { return base.scorer(); }
  [[nodiscard]] constexpr auto rule() const { return budget::adaptive{base.rule(), floor, safeguard}; }
  [[nodiscard]] constexpr protect protection() const { return base.protection(); }
};
template <class Base>
adakv(Base) -> adakv<Base>;
template <class Base>
adakv(Base, double) -> adakv<Base>;
template <class Base>
adakv(Base, double, budget::safeguard) -> adakv<Base>;

/// The policy whose scores a policy uses: head-wise budgets change none, so a host that scores apart from selecting
/// need compile and run a scorer only once for both.
template <eviction_policy Policy>
[[nodiscard]] constexpr const auto& scoring_policy(const Policy& policy) {
  if constexpr (requires { policy.base; })
    return policy.base;
  else
    return policy;
}

}  // namespace kvevict
