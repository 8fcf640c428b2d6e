// SPDX-License-Identifier: MIT
#include "run_policy.hpp"

void run_adaptive_policy(const layer_capture& capture, const task& what, policy_run& run) {
  run_kind<true>(capture, what, run);
}
