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
/// `recent` is a share of the budget; `window` truncates the decay, which bounds what the score costs. The decay may
/// change with depth, on a line from `decay` in the first layer to `last_decay` in the last (0: it does not).
///
///     asked     (E / sum E + question P / sum P) D, with P_j the mean attention of the last 8 rows, pooled over 5
///     slots pyramid   layer budgets that fall with depth, as PyramidKV's
template <bool Asked, bool Pyramid>
struct decayed_unlike_kind {
  static constexpr const char* name = Asked     ? "asked_decayed_unlike"
                                      : Pyramid ? "pyramid_decayed_unlike"
                                                : "decayed_unlike";
  amount budget = slots(1024);
  index_t window = 2048;
  double decay = 512;
  double last_decay = 0;
  index_t power = 2;
  double question = 0.5;
  index_t sinks = 4;
  amount recent = percent(30);

  friend constexpr bool operator==(const decayed_unlike_kind&, const decayed_unlike_kind&) = default;
  template <class Self, class Visit>
  static constexpr void options(Self& self, Visit&& visit) {
    visit("window", self.window);
    visit("decay", self.decay);
    visit("last_decay", self.last_decay);
    visit("power", self.power);
    if constexpr (Asked) visit("question", self.question);
    visit("sinks", self.sinks);
    visit("recent", self.recent);
  }
  /// The same policy with the decay of one layer.
  [[nodiscard]] constexpr decayed_unlike_kind at_layer(index_t layer, index_t layers) const {
    decayed_unlike_kind one = *this;
    if (last_decay > 0) one.decay = decay + (last_decay - decay) * layer / (layers - 1);
    return one;
  }
  [[nodiscard]] constexpr auto attention() const {
    const auto decayed = score::attention<score::plain_gain, score::decayed_rows>{.window = window, .weight = {decay}} |
                         score::group_mean{};
    if constexpr (Asked)
      return score::weighted_sum{
          decayed | score::share_of_sum{},
          score::observation_window(8) | score::group_mean{} | score::avg_pool{.width = 5} | score::share_of_sum{},
          1.0F, static_cast<float>(question)};
    else
      return decayed;
  }
  [[nodiscard]] constexpr auto scorer() const {
    return score::product{attention(), score::key_diff{} | score::power{.offset = 1, .exponent = power}};
  }
  [[nodiscard]] constexpr auto rule() const {
    if constexpr (Pyramid)
      return budget::pyramid{budget, 20};
    else
      return budget::uniform{budget};
  }
  [[nodiscard]] constexpr protect protection() const { return {sinks, recent}; }
};
using decayed_unlike = decayed_unlike_kind<false, false>;
using asked_decayed_unlike = decayed_unlike_kind<true, false>;
using pyramid_decayed_unlike = decayed_unlike_kind<false, true>;

template <class Policy>
inline constexpr bool is_one = false;
template <>
inline constexpr bool is_one<pooled_ahakv> = true;
template <bool Asked, bool Pyramid>
inline constexpr bool is_one<decayed_unlike_kind<Asked, Pyramid>> = true;
template <class Base>
inline constexpr bool is_one<adakv<Base>> = is_one<Base>;

/// kvevict::visit_policy with these beside the library's policies.
template <class F>
[[nodiscard]] std::string visit(std::string_view spec, amount budget, F&& f) {
  return visit_policy<pooled_ahakv, decayed_unlike, asked_decayed_unlike, pyramid_decayed_unlike>(spec, budget,
                                                                                                  std::forward<F>(f));
}

}  // namespace compositions
