// SPDX-License-Identifier: MIT
#include "policy.hpp"

namespace {

[[maybe_unused]] const bool added = bench::add(kvevict::streaming_llm{}, 1);

}  // namespace
