// SPDX-License-Identifier: MIT
#include <kvevict/policy/spec.hpp>

#include "run_decode.hpp"

void decode_adaptive_policy(const layer_capture& capture, const task& what, policy_run& run) {
  decode_kind<true>(capture, what, run);
}
