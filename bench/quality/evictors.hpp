// SPDX-License-Identifier: MIT
#pragma once

#include <eviction.hpp>

/// make_evictor (eviction.hpp) with the compositions of this study beside the library's policies.
std::unique_ptr<evictor> make_study_evictor(const std::string& spec, kvevict::amount budget, const llama_config& model,
                                            kv_memory& cache, int prompt_length);
