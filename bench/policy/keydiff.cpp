// SPDX-License-Identifier: MIT
#include "policy.hpp"

namespace {

[[maybe_unused]] const bool added = bench::add(kvevict::keydiff{}, 1);

}  // namespace
