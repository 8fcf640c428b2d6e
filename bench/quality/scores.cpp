// SPDX-License-Identifier: MIT
#include <kvevict/cpu/openmp.hpp>
#include <type_traits>

#include "compositions.hpp"
#include "policies.hpp"

namespace {

/// Whether scores depend on the budget: AhaKV's gain and NACL's draws do.
template <class Scorer>
constexpr bool reads_budget() {
  if constexpr (requires(Scorer s) { s.stage; })
    return reads_budget<decltype(Scorer::source)>() ||
           std::is_same_v<decltype(Scorer::stage), kvevict::score::random_share>;
  else if constexpr (requires { requires kvevict::score::source<decltype(Scorer::a)>; })
    return reads_budget<decltype(Scorer::a)>() || reads_budget<decltype(Scorer::b)>();
  else if constexpr (requires { typename Scorer::gain_type; })
    return !Scorer::gain_type::plain;
  else
    return false;
}

/// The spec whose scores another one uses: it says nothing of head-wise budgets.
std::string scoring_spec(const std::string& spec, kvevict::amount budget) {
  std::string bare;
  const std::string wrong = compositions::visit(
      spec, budget, [&](const auto& policy) { bare = kvevict::to_string(kvevict::scoring_policy(policy)); });
  if (!wrong.empty()) throw std::runtime_error(wrong);
  return bare;
}

}  // namespace

const std::vector<float>& prompt_policies::scores(const std::string& spec, kvevict::amount budget) {
  using namespace kvevict;
  const auto rows = static_cast<index_t>(prompt_.inputs().cache.shape().rows());
  const cpu<openmp> on{openmp{}};
  const std::vector<float>* found = nullptr;
  const std::string bare = scoring_spec(spec, budget);
  const auto length = static_cast<index_t>(prompt_.tokens()), slots = static_cast<index_t>(budget.of(length));
  const auto find = [&](const auto& policy) {
    using scorer = std::remove_cvref_t<decltype(policy.scorer())>;
    std::string key = bare + ' ' + std::to_string(policy.protection().of(length, slots).recent);  // pools stop there
    if constexpr (reads_budget<scorer>()) key += ' ' + std::to_string(slots);
    std::vector<float>& out = scores_[key];
    found = &out;
    if (!out.empty()) return;
    std::vector<float> computed(static_cast<std::size_t>(rows) * static_cast<std::size_t>(length));
    const auto score = [&](const auto& of_policy, const auto& in, float* to) {
      const auto count = static_cast<index_t>(in.cache.shape().rows());
      std::vector<offset_t> offsets;
      for (index_t r = 0; r <= count; ++r) offsets.push_back(offset_t{r} * length);
      std::vector<cache_line> scratch(cache_lines(workspace_bytes(on, of_policy, in)));
      require(score_rows(on, of_policy, in, ragged<float>{to, offsets.data(), count}, workspace_of(scratch)));
    };
    if constexpr (requires { policy.at_layer(0, 1); }) {
      const index_t layers = prompt_.inputs().cache.shape().layers;
      for (index_t l = 0; l < layers; ++l)
        score(policy.at_layer(l, layers), prompt_.inputs(l, 1),
              computed.data() + offset_t{l} * (rows / layers) * length);
    } else {
      score(policy, prompt_.inputs(), computed.data());
    }
    out = std::move(computed);
  };
  static_cast<void>(compositions::visit(bare, budget, [&](const auto& policy) {
    if constexpr (!requires { policy.base; }) find(policy);
  }));
  return *found;
}
