// SPDX-License-Identifier: MIT
#include "policy.hpp"

namespace {

[[maybe_unused]] const bool added = bench::add(kvevict::adakv{kvevict::snapkv<>{}}, 32, "ada_snapkv") &&
                                    bench::add(kvevict::adakv{kvevict::ahakv<>{}}, 32, "ada_ahakv");

}  // namespace
