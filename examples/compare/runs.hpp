// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/core/amount.hpp>
#include <kvevict/core/status.hpp>
#include <string>
#include <vector>

#include "layer_capture.hpp"

/// What is asked of every policy on a layer.
struct task {
  int future = 0;  ///< the last tokens, which come after the prompt
  int every = 0;   ///< decode: evict whenever a row holds so many slots above its budget; 0: evict the prompt only
  int index = 0;   ///< of the layer among the `depth` layers of its file; PyramidKV's schedule needs that
  int depth = 1;
  bool on_device = false;  ///< also run it there, and compare
};

/// What stayed at one time: positions per kv_head, ascending.
struct eviction {
  int after = 0;  ///< future tokens appended before
  std::vector<std::vector<int>> retained{};
};

/// How well the device and the CPU agree. By the same scores they select the same slots, or the run has ended; so where
/// slots differ, the scores of the two differ.
struct agreement {
  std::size_t slots = 0;   ///< that the CPU retains
  std::size_t differ = 0;  ///< retained by one of the two only
  double margin = 0;       ///< farthest of these from the threshold of its row, in units of the row's largest score
  double score_error = 0;  ///< largest difference of two scores, in the same units
};

/// What one policy did to one layer, and how good that was.
struct layer_run {
  std::vector<eviction> evictions{};       ///< of the prompt, then along decode
  std::vector<std::vector<int>> retained;  ///< at the end: [kv_head][...], ascending positions
  double score_seconds = 0, select_seconds = 0, compact_seconds = 0;
  double copy_seconds = 0;    ///< a plain copy of the same keys and values
  double decode_seconds = 0;  ///< all steps of decode: append, observe, evict, compact

  // Where the device is to be compared: the CPU's scores [kv_head][slot] and thresholds, until that has been done.
  std::vector<float> scores{}, thresholds{};
  agreement agrees{};

  // Over the future rows; see evaluate().
  double mass = 0;      ///< share of the attention weights of everything that falls on what is kept
  double error = 0;     ///< ||o' - o|| / ||o||
  double distance = 0;  ///< mean over rows of ||o' - o||_1
  double bound = 0;     ///< Ada-KV's bound on `distance`

  /// Positions that are cached when `step` future tokens have been appended after a prompt of that length.
  [[nodiscard]] std::vector<std::vector<int>> at(int step, int prompt) const;
};

struct policy_run {
  std::string spec;
  kvevict::amount budget;
  std::string problem{};  ///< why the policy could not run; empty if it did
  std::vector<layer_run> layers{};
};

/// What a refused call says, with the number that would have done where there is one.
inline std::string problem_of(const kvevict::status& s) {
  const bool budget = s.code == kvevict::status_code::bad_budget && s.needed > 0;
  return std::string(s.argument) + ": " + s.sentence + (budget ? " [at least " + std::to_string(s.needed) + "]" : "");
}

/// Checks a spec without running it: nothing, or what is wrong.
std::string check_spec(const std::string& spec);

/// Scores, selects and compacts the prompt of a layer, and decodes the rest if the task says so. Sets run.problem or
/// appends to run.layers.
void run_policy(const layer_capture& capture, const task& what, policy_run& run);

// Parts of it, in translation units of their own because every policy is compiled in each.
void run_adaptive_policy(const layer_capture& capture, const task& what, policy_run& run);
void decode_plain_policy(const layer_capture& capture, const task& what, policy_run& run);
void decode_adaptive_policy(const layer_capture& capture, const task& what, policy_run& run);

/// Judges all runs of one layer by the last `future` tokens: attention over what is cached when each of them comes
/// (what stayed and the tokens since) against attention over everything. With a = the weights over everything and
/// kept = what is cached,
///
///     mass   mean over rows and query_heads of  sum over kept of a
///     o'     the kept weights, renormalised, times the values
///     bound  mean over rows of  2 C sum over query_heads of (1 - mass),   C = largest absolute row sum of the values
///
/// which is Ada-KV's bound (arXiv 2407.11550, theorem 3.1) with the output projection taken as the identity.
void evaluate(const layer_capture& capture, int future, const std::vector<layer_run*>& runs);
