// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <kvevict/core/status.hpp>
#include <kvevict/core/types.hpp>

/// The softmax that scores a query row: a[i, j] = softmax over visible j of  gain(i) * q_i . k_j / sqrt(head_dim).
/// Only scoring is affected; the model's own attention never is.
namespace kvevict::score {

/// The usual softmax, gain 1. Probabilities and log-sum-exp that the engine has can be used as they are.
struct plain_gain {
  static constexpr const char* spelling = "plain";
  static constexpr bool plain = true;
  friend constexpr bool operator==(const plain_gain&, const plain_gain&) = default;

  [[nodiscard]] KVEVICT_HOST_DEVICE float operator()(index_t /*visible*/, index_t /*budget*/) const { return 1.0F; }
};

/// AhaKV's step gain softmax (arXiv 2506.03762, section "step gain softmax"):
///
///     lambda_i = sqrt(2 ln(i / k) / head_dim),   so  gain(i) = lambda_i sqrt(head_dim) = sqrt(2 ln(i / k))
///
/// i = tokens that row i sees, k = the nominal budget of its kv_head. For queries and keys that are N(0, I) the
/// expected entropy of the row becomes ln k, the most that k kept tokens can carry.
///
/// Our choices, which the paper leaves open: rows with i <= k, where the root has no real value, get `floor`
/// (0: uniform weights over what the row sees, the continuous extension); no gain is below `floor`.
struct step_gain {
  static constexpr const char* spelling = "step";
  static constexpr bool plain = false;
  double floor = 0;
  friend constexpr bool operator==(const step_gain&, const step_gain&) = default;

  [[nodiscard]] KVEVICT_HOST_DEVICE float operator()(index_t visible, index_t budget) const {
    const double gain =
        visible > budget && budget > 0 ? std::sqrt(2 * std::log(static_cast<double>(visible) / budget)) : 0.0;
    return static_cast<float>(gain < floor ? floor : gain);
  }
  [[nodiscard]] constexpr status check() const {
    if (floor >= 0 && floor < 1e6) return {};
    return {status_code::bad_option, "gain_floor", "gain_floor must be at least 0 and below 1e6"};
  }
};

}  // namespace kvevict::score
