// SPDX-License-Identifier: MIT
#include "run_policy.hpp"

std::string check_spec(const std::string& spec) {
  return kvevict::visit_policy(spec, kvevict::percent(50), [](const auto&) {});
}

void run_policy(const layer_capture& capture, int future, int index, int depth, policy_run& run) {
  if (!run.problem.empty()) return;
  if (run.spec.starts_with("ada_"))
    run_adaptive_policy(capture, future, index, depth, run);
  else
    run_kind<false>(capture, future, index, depth, run);
}
