// SPDX-License-Identifier: MIT
#include "policy_evictor.hpp"

std::unique_ptr<evictor> make_adaptive_evictor(const std::string& spec, kvevict::amount budget,
                                               const llama_config& model, kv_memory& cache, int prompt_length) {
  return make_kind<true>(spec, budget, model, cache, prompt_length);
}
