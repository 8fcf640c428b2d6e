// SPDX-License-Identifier: MIT
#include <kvevict/cpu/openmp.hpp>
#include <stdexcept>

#include "compositions.hpp"
#include "policies.hpp"

namespace {

/// The policy whose scores these are: without head-wise budgets.
template <class Policy>
const auto& scoring(const Policy& policy) {
  if constexpr (requires { policy.base; })
    return policy.base;
  else
    return policy;
}

/// The bare spec: a policy with head-wise budgets scores as without them.
std::string scoring_spec(const std::string& spec, kvevict::amount budget) {
  std::string bare;
  const std::string wrong =
      compositions::visit(spec, budget, [&](const auto& policy) { bare = kvevict::to_string(scoring(policy)); });
  if (!wrong.empty()) throw std::runtime_error(wrong);
  return bare;
}

}  // namespace

const std::vector<float>& prompt_policies::scores(const std::string& spec, kvevict::amount budget) {
  using namespace kvevict;
  const std::string bare = scoring_spec(spec, budget);
  std::vector<float>& out = scores_[bare + ' ' + spec_detail::text_of(budget)];
  if (!out.empty()) return out;
  const auto in = prompt_.inputs();
  const auto rows = static_cast<index_t>(in.cache.shape().rows());
  std::vector<float> found(static_cast<std::size_t>(rows) * static_cast<std::size_t>(prompt_.tokens()));
  std::vector<offset_t> offsets;
  for (index_t r = 0; r <= rows; ++r) offsets.push_back(offset_t{r} * prompt_.tokens());
  const std::string wrong = compositions::visit(bare, budget, [&](const auto& policy) {
    if constexpr (!requires { policy.base; }) {
      const cpu<openmp> on{openmp{}};
      std::vector<cache_line> scratch(cache_lines(workspace_bytes(on, policy, in)));
      const status s =
          score_rows(on, policy, in, ragged<float>{found.data(), offsets.data(), rows}, workspace_of(scratch));
      if (!s.ok()) throw std::runtime_error(std::string(s.argument) + ": " + s.sentence);
    }
  });
  if (!wrong.empty()) throw std::runtime_error(wrong);
  return out = std::move(found);
}
