// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/score/scorer.hpp>

/// Smoothing over neighbouring slots: centred, odd width, over the slots before the recent ones
/// [0, length - recent) (SnapKV pools the prefix only); recent slots keep their scores.
namespace kvevict::score {

/// Mean of `width` slots; slots beyond the border count as 0 and are counted, so border values are low
/// (torch's avg_pool1d default, which SnapKV and kvpress use): width 3 of [1 0 0 4 0 2] starts with 1/3.
struct avg_pool {
  static constexpr const char* spelling = "avg";
  static constexpr bool reduces_group = false;
  index_t width = 5;
  friend constexpr bool operator==(const avg_pool&, const avg_pool&) = default;
  [[nodiscard]] constexpr status check() const { return odd_width(width, "pool_width"); }
};

/// Maximum of `width` slots, truncated at the borders. NaN is passed over unless all are NaN.
struct max_pool {
  static constexpr const char* spelling = "max";
  static constexpr bool reduces_group = false;
  index_t width = 7;
  friend constexpr bool operator==(const max_pool&, const max_pool&) = default;
  [[nodiscard]] constexpr status check() const { return odd_width(width, "pool_width"); }
};

/// No pooling; where a policy takes the kind of pooling as a type.
struct no_pool {
  static constexpr const char* spelling = "none";
  static constexpr bool reduces_group = false;
  index_t width = 1;
  friend constexpr bool operator==(const no_pool&, const no_pool&) = default;
};

}  // namespace kvevict::score
