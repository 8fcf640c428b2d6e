// SPDX-License-Identifier: MIT
#include "policy.hpp"

namespace {

[[maybe_unused]] const bool added = bench::add(kvevict::snapkv<>{}, 32);

}  // namespace
