// SPDX-License-Identifier: MIT
#include "conformance.hpp"

TEST_CASE("every policy over every view, bf16") { conformance::every_policy_over_every_view<kvevict::bfloat16>(); }
