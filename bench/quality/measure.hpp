// SPDX-License-Identifier: MIT
#pragma once

#include <functional>

#include "likelihood.hpp"
#include "policies.hpp"
#include "sample.hpp"

/// A policy at a budget, as text: "ada_snapkv:window=16", "25%".
struct policy_run {
  std::string spec, budget;
};

/// What a run of a sample gave: the mean number of slots that a head kept, and how predictions compare; or what was
/// wrong, for instance a budget smaller than what the policy protects.
struct run_result {
  double slots = 0;
  comparison quality{};
  std::string problem;
};

/// One sample under many policies: the prompt runs once, `follow` runs once per policy, several of them at a time.
class measured_sample {
 public:
  measured_sample(const llama& model, const sample& of);

  /// The full cache compared with itself.
  [[nodiscard]] run_result full() const;
  /// What they keep of the prompt, without running on.
  [[nodiscard]] prompt_policies& policies() { return policies_; }
  /// Evicts once after the prompt; calls `done` for each run in order.
  void after_prompt(const std::vector<policy_run>& runs,
                    const std::function<void(const policy_run&, const run_result&)>& done);
  /// Evicts after the prompt, and again whenever rows hold `slack` slots above their budgets, while `follow` is read
  /// token by token.
  void along_decode(const std::vector<policy_run>& runs, int slack,
                    const std::function<void(const policy_run&, const run_result&)>& done);

 private:
  [[nodiscard]] std::span<const int> fed() const { return {of_.follow.data(), of_.follow.size() - 1}; }

  const llama& model_;
  const sample& of_;
  prompt prompt_;
  prompt_policies policies_;
  full_predictions full_;
};
