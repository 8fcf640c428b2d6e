// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/policy/policy.hpp>
#include <kvevict/score/attention.hpp>
#include <kvevict/score/combine.hpp>
#include <kvevict/score/group.hpp>
#include <kvevict/score/keys.hpp>

namespace kvevict {

/// Decayed attention times KeyDiff's factor. No paper has it: it is a composition of this library's parts that a search
/// over variants found, and its figures are those of one model of 135 M parameters (bench/quality, bench/results).
///
///     score_j = E_j D_j      E_j = mean over the group of sum over the last `window` rows of exp(-age / decay) a[i, j]
///                            D_j = (1 - cos(k_j, m))^2,  m = mean over the row of k / ||k||
///
/// E prefers what was looked at lately, D what is unlike the average key. The first `sinks` slots and the last
/// `recent` ones, a share of the budget, are kept. The window truncates the decay: scoring costs what an observation
/// window of as many rows costs, whatever the length. Measured with equal heads and with head-wise budgets,
/// `adakv{decayed_keydiff{}, 0.5}`, which prose prefers.
///
/// Figures (SmolLM2-135M, 12 documents that the search had not seen; bench/results/2026-11-26-epyc-zen5-quality.md):
/// the geometric mean KLD on prose, with head-wise budgets, was 0.70 and 0.71 of H2O's at 25 and 50 % (z -3.5, -3.7)
/// and not apart from it at 10 %, 0.70 and 0.61 of AhaKV's; the mean KLD was not apart from H2O's. Copies as H2O's,
/// needles too: KeyDiff alone finds far more, SnapKV more where it has seen the question. Evicting took 4 to 5 % of a
/// prompt of 2048 tokens, SnapKV 1 %. Nothing is claimed for other models.
///
/// Along decode: the last `window` queries over the keys then cached, and the factor over these keys. The state holds
/// those queries, `window * group_size` keys' worth per kv_head. With `window = score::all_rows` it holds decayed
/// running sums instead, one number per query_head and slot as H2O's, and a prompt costs what H2O's costs.
struct decayed_keydiff {
  static constexpr const char* name = "decayed_keydiff";
  amount budget = slots(1024);
  index_t window = 256;
  double decay = 512;           ///< rows after which attention counts 1 / e
  amount recent = percent(30);  ///< slots, or a share of the budget
  index_t sinks = 4;

  friend constexpr bool operator==(const decayed_keydiff&, const decayed_keydiff&) = default;
  template <class Self, class Visit>
  static constexpr void options(Self& self, Visit&& visit) {
    visit("window", self.window);
    visit("decay", self.decay);
    visit("recent", self.recent);
    visit("sinks", self.sinks);
  }

  [[nodiscard]] constexpr auto scorer() const {
    return score::product{
        score::attention<score::plain_gain, score::decayed_rows>{.window = window, .weight = {decay}} |
            score::group_mean{},
        score::key_diff{} | score::power{.offset = 1, .exponent = 2}};
  }
  [[nodiscard]] constexpr auto rule() const { return budget::uniform{budget}; }
  [[nodiscard]] constexpr protect protection() const { return {sinks, recent}; }
};

}  // namespace kvevict
