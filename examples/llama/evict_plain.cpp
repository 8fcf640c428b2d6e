// SPDX-License-Identifier: MIT
#include "policy_evictor.hpp"

std::string check_policy(const std::string& spec) {
  return kvevict::visit_policy(spec, kvevict::percent(50), [](const auto&) {});
}

std::unique_ptr<evictor> make_evictor(const std::string& spec, kvevict::amount budget, const llama_config& model,
                                      kv_memory& cache, int prompt_length) {
  return (spec.starts_with("ada_") ? make_adaptive_evictor : make_plain_evictor)(spec, budget, model, cache,
                                                                                 prompt_length);
}

std::unique_ptr<evictor> make_plain_evictor(const std::string& spec, kvevict::amount budget, const llama_config& model,
                                            kv_memory& cache, int prompt_length) {
  return make_kind<false>(spec, budget, model, cache, prompt_length);
}
