// SPDX-License-Identifier: MIT
#pragma once

#include <vector>

/// What an eviction changed in the model's predictions, over some positions.
struct comparison {
  double kld = 0;        ///< mean of KL(full || evicted), nats
  double log_kld = 0;    ///< mean of its logarithm, of values below 1e-10 that of 1e-10: exp of it is a geometric mean
  double nll = 0;        ///< mean negative log-likelihood of the targets
  double agreement = 0;  ///< share of positions whose most probable token is the full cache's
  double accuracy = 0;   ///< share of positions whose most probable token is the target
  bool exact = false;    ///< all of them: greedy decoding would have written the targets
};

/// The predictions of the full cache at the scored positions of a sample, and the tokens that really follow there.
class full_predictions {
 public:
  /// `logits` [targets][vocabulary].
  full_predictions(const std::vector<float>& logits, std::vector<int> targets);

  [[nodiscard]] int positions() const { return static_cast<int>(targets_.size()); }
  /// How predictions compare; `logits` [targets][vocabulary].
  [[nodiscard]] comparison compare(const float* logits) const;
  [[nodiscard]] comparison compare_with_itself() const { return compare(log_probabilities_.data()); }

 private:
  std::vector<int> targets_;
  int vocabulary_;
  std::vector<float> log_probabilities_;  // [targets][vocabulary]
};
