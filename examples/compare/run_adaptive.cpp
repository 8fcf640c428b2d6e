// SPDX-License-Identifier: MIT
#include "run_policy.hpp"

void run_adaptive_policy(const layer_capture& capture, int future, int index, int depth, policy_run& run) {
  run_kind<true>(capture, future, index, depth, run);
}
