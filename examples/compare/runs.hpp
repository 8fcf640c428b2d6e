// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/core/amount.hpp>
#include <string>
#include <vector>

#include "capture_file.hpp"

/// What one policy did to one layer, and how good that was.
struct layer_run {
  std::vector<std::vector<int>> retained;  ///< [kv_head][...], ascending
  double score_seconds = 0, select_seconds = 0, compact_seconds = 0;
  double copy_seconds = 0;  ///< a plain copy of the same keys and values

  // Over the future rows; see evaluate().
  double mass = 0;      ///< share of the attention weights of everything that falls on what is kept
  double error = 0;     ///< ||o' - o|| / ||o||
  double distance = 0;  ///< mean over rows of ||o' - o||_1
  double bound = 0;     ///< Ada-KV's bound on `distance`
};

struct policy_run {
  std::string spec;
  kvevict::amount budget;
  std::string problem{};  ///< why the policy could not run; empty if it did
  std::vector<layer_run> layers{};
};

/// Checks a spec without running it: nothing, or what is wrong.
std::string check_spec(const std::string& spec);

/// Scores, selects and compacts the first `length - future` slots of a layer, which is the `index`-th of `depth`
/// layers in its file (PyramidKV's schedule needs that). Sets run.problem or appends to run.layers.
void run_policy(const layer_capture& capture, int future, int index, int depth, policy_run& run);

/// The same for a policy that is known to have head-wise budgets; run_policy calls it.
void run_adaptive_policy(const layer_capture& capture, int future, int index, int depth, policy_run& run);

/// Judges all runs of one layer by the last `future` tokens: attention over the retained slots and the future tokens
/// against attention over everything. With a = the weights over everything and kept = retained or future,
///
///     mass   mean over rows and query_heads of  sum over kept of a
///     o'     the kept weights, renormalised, times the values
///     bound  mean over rows of  2 C sum over query_heads of (1 - mass),   C = largest absolute row sum of the values
///
/// which is Ada-KV's bound (arXiv 2407.11550, theorem 3.1) with the output projection taken as the identity.
void evaluate(const layer_capture& capture, int future, const std::vector<layer_run*>& runs);
