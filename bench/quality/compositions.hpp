// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/kvevict.hpp>
#include <kvevict/policy/spec.hpp>

/// Policies that no paper has, composed from the library's parts for this study. They are used by their names in a spec
/// like the library's own, with `ada_` before them too.
namespace compositions {

using namespace kvevict;

/// AhaKV with its scores pooled as SnapKV pools its own. Alone it measures what pooling does; under Ada-KV's budgets
/// pooling decides how much a head asks for.
struct pooled_ahakv {
  static constexpr const char* name = "pooled_ahakv";
  amount budget = slots(1024);
  index_t window = 32;
  index_t pool_width = 5;

  friend constexpr bool operator==(const pooled_ahakv&, const pooled_ahakv&) = default;
  template <class Self, class Visit>
  static constexpr void options(Self& self, Visit&& visit) {
    visit("window", self.window);
    visit("pool_width", self.pool_width);
  }
  [[nodiscard]] constexpr auto scorer() const {
    return ahakv<>{.window = window}.scorer() | score::avg_pool{.width = pool_width};
  }
  [[nodiscard]] constexpr auto rule() const { return budget::uniform{budget}; }
  [[nodiscard]] constexpr protect protection() const { return {0, slots(window)}; }
};

/// Decayed attention times KeyDiff's factor:
///
///     score_j = E_j D_j      E_j = mean over the group of sum over the last `window` rows of exp(-age / decay) a[i, j]
///                            D_j = (1 - cos(k_j, mean direction of the keys))^power
///
/// `recent` is a share of the budget; `window` truncates the decay, which bounds what the score costs.
struct decayed_unlike {
  static constexpr const char* name = "decayed_unlike";
  amount budget = slots(1024);
  index_t window = 2048;
  double decay = 512;
  index_t power = 2;
  index_t sinks = 4;
  amount recent = percent(30);

  friend constexpr bool operator==(const decayed_unlike&, const decayed_unlike&) = default;
  template <class Self, class Visit>
  static constexpr void options(Self& self, Visit&& visit) {
    visit("window", self.window);
    visit("decay", self.decay);
    visit("power", self.power);
    visit("sinks", self.sinks);
    visit("recent", self.recent);
  }
  [[nodiscard]] constexpr auto attention() const {
    return score::attention<score::plain_gain, score::decayed_rows>{.window = window, .weight = {decay}} |
           score::group_mean{};
  }
  [[nodiscard]] constexpr auto unlike() const {
    return score::key_diff{} | score::power{.offset = 1, .exponent = power};
  }
  [[nodiscard]] constexpr auto scorer() const { return score::product{attention(), unlike()}; }
  [[nodiscard]] constexpr auto rule() const { return budget::uniform{budget}; }
  [[nodiscard]] constexpr protect protection() const { return {sinks, recent}; }
};

template <class Policy>
inline constexpr bool is_one = std::is_same_v<Policy, pooled_ahakv> || std::is_same_v<Policy, decayed_unlike>;
template <class Base>
inline constexpr bool is_one<adakv<Base>> = is_one<Base>;

/// kvevict::visit_policy with these beside the library's policies.
template <class F>
[[nodiscard]] std::string visit(std::string_view spec, amount budget, F&& f) {
  return visit_policy<pooled_ahakv, decayed_unlike>(spec, budget, std::forward<F>(f));
}

}  // namespace compositions
