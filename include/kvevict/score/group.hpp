// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/score/scorer.hpp>

/// Scores of the query_heads of a group -> the score of their kv_head: [group_size][length] -> [length].
/// Average pooling commutes with mean and sum; maximum pooling does not, so the place in the chain is a choice.
namespace kvevict::score {

struct group_mean {
  static constexpr bool reduces_group = true;
  friend constexpr bool operator==(const group_mean&, const group_mean&) = default;
};
struct group_max {
  static constexpr bool reduces_group = true;
  friend constexpr bool operator==(const group_max&, const group_max&) = default;
};
struct group_sum {
  static constexpr bool reduces_group = true;
  friend constexpr bool operator==(const group_sum&, const group_sum&) = default;
};

/// The mean over all kv_heads of one (layer, sequence), given to each of them, so that all keep the same slots
/// (TOVA). Comes last in a chain; the kv_heads of a sequence must have equal lengths.
struct layer_mean {
  static constexpr bool reduces_group = false;
  static constexpr bool crosses_rows = true;
  friend constexpr bool operator==(const layer_mean&, const layer_mean&) = default;
};

}  // namespace kvevict::score
