// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/score/scorer.hpp>

namespace kvevict::score {

/// AhaKV's value prior enhancement (arXiv 2506.03762): scores times
///
///     gamma_j / max over the row of gamma,     gamma = average pool of nu,   nu_j = ||v_j||_2^2
///
/// Reads value norms where given, else the values. Our choices, which the paper leaves open: centred pool of width 5
/// with zero padding counted; the maximum is over the row (one kv_head). A row whose values are all zero keeps its
/// scores. A squared norm that no float holds makes its neighbourhood NaN, which goes first, and all other priors 0.
struct value_prior {
  static constexpr const char* spelling = "on";
  static constexpr bool reduces_group = false;
  index_t width = 5;  ///< odd
  friend constexpr bool operator==(const value_prior&, const value_prior&) = default;
  [[nodiscard]] constexpr status check() const { return odd_width(width, "prior_width"); }
};

/// No prior; where a policy takes the prior as a type.
struct no_prior {
  static constexpr const char* spelling = "off";
  static constexpr bool reduces_group = false;
  index_t width = 1;
  friend constexpr bool operator==(const no_prior&, const no_prior&) = default;
};

}  // namespace kvevict::score
