// SPDX-License-Identifier: MIT
#include "run_policy.hpp"

std::string check_spec(const std::string& spec) {
  return kvevict::visit_policy(spec, kvevict::percent(50), [](const auto&) {});
}

void run_policy(const layer_capture& capture, const task& what, policy_run& run) {
  if (!run.problem.empty()) return;
  const bool adaptive = run.spec.starts_with("ada_");
  if (adaptive)
    run_adaptive_policy(capture, what, run);
  else
    run_kind<false>(capture, what, run);
  if (what.every > 0 && run.problem.empty())
    (adaptive ? decode_adaptive_policy : decode_plain_policy)(capture, what, run);
}
