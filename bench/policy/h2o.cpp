// SPDX-License-Identifier: MIT
#include "policy.hpp"

namespace {

[[maybe_unused]] const bool added = bench::add(kvevict::h2o{}, kvevict::score::all_rows);

}  // namespace
