// SPDX-License-Identifier: MIT
#include "evictors.hpp"

#include <policy_evictor.hpp>

#include "compositions.hpp"

std::unique_ptr<evictor> make_study_evictor(const std::string& spec, kvevict::amount budget, const llama_config& model,
                                            kv_memory& cache, int prompt_length) {
  std::unique_ptr<evictor> made;
  const std::string wrong = compositions::visit(spec, budget, [&](const auto& policy) {
    using kind = std::remove_cvref_t<decltype(policy)>;
    if constexpr (compositions::is_one<kind>)
      made = std::make_unique<policy_evictor<kind>>(policy, model, cache, prompt_length);
  });
  if (!wrong.empty()) throw std::runtime_error(wrong);
  return made ? std::move(made) : make_evictor(spec, budget, model, cache, prompt_length);
}
