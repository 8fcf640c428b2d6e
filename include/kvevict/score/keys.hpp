// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/score/scorer.hpp>

/// Scores from keys alone; RoPE does not change norms.
namespace kvevict::score {

/// -||k_j||_2: keys of small norm draw much attention (Devoto et al., arXiv 2406.11430; kvpress Knorm).
struct key_norm {
  static constexpr bool per_query_head = false;
  friend constexpr bool operator==(const key_norm&, const key_norm&) = default;
};

/// -cos(k_j, m), m = mean over the row of k / ||k||: what is unlike the average key stays (KeyDiff, arXiv 2504.15364).
/// Norms are kept above 1e-12, as torch's normalize does, so a zero key scores 0.
struct key_diff {
  static constexpr bool per_query_head = false;
  friend constexpr bool operator==(const key_diff&, const key_diff&) = default;
};

}  // namespace kvevict::score
