// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/core/workspace.hpp>
#include <kvevict/cpu/budget/across_ranks.hpp>
#include <kvevict/cpu/budget/share.hpp>
#include <kvevict/cpu/score/score.hpp>
#include <kvevict/cpu/select/select.hpp>

/// How an eviction divides its workspace, and the checks of what it writes to.
namespace kvevict::detail {

/// The parts of a workspace; one function, so that measuring and placing agree.
struct select_memory {
  index_t* budgets;
  std::int32_t* keys;  ///< of one row per worker, or, where rows share a budget, of all rows
  offset_t keys_of_worker;
  pool_lists pools;
  std::byte* pool_memory;
  offset_t pool_memory_bytes;

  /// `slots`: of all rows
  template <class Policy>
  static select_memory take(carver& from, const Policy& policy, index_t rows, offset_t slots, index_t longest,
                            index_t largest_pool, index_t workers) {
    select_memory m{};
    m.budgets = from.take<index_t>(rows);
    m.keys_of_worker = static_cast<offset_t>(blocks_of(longest)) * scan_block;
    if constexpr (decltype(policy.rule())::joint) {
      m.keys = from.take<std::int32_t>(first_key(slots, rows));
      m.pools = pool_lists::take(from, rows);
      carver one;
      pool_scratch::take(one, largest_pool);
      m.pool_memory_bytes = one.bytes();
      m.pool_memory = from.take<std::byte>(one.bytes() * workers);
    } else {
      m.keys = from.take<std::int32_t>(m.keys_of_worker * workers);
    }
    return m;
  }

  /// Where the keys of row r start, `slots` lying before it: whole blocks, with room to fill the last of each row up.
  static constexpr offset_t first_key(offset_t slots, index_t r) {
    return (slots / scan_block + offset_t{2} * r) * scan_block;
  }
  [[nodiscard]] std::int32_t* keys_of(const ragged<const float>& scores, index_t r) const {
    return keys + first_key(scores.offsets[r] - scores.offsets[0], r);
  }
};

struct score_memory {
  std::byte* scratch;
  offset_t scratch_bytes;

  template <class Scorer>
  static score_memory take(carver& from, const Scorer& scorer, const scratch_extent& extent, index_t workers) {
    carver one;
    kernel_for<Scorer>::plan(scorer, extent, one);
    return {from.take<std::byte>(one.bytes() * workers), one.bytes()};
  }
};

struct evict_memory {
  offset_t* offsets;
  float* scores;
  score_memory score;
  select_memory select;
  rank_scratch ranks;

  template <class Policy, class Inputs>
  static evict_memory take(carver& from, const Policy& policy, const Inputs& in, index_t workers) {
    const cache_shape shape = in.cache.shape();
    const auto rows = static_cast<index_t>(shape.rows());
    offset_t slots = 0;
    for (index_t r = 0; r < rows; ++r) slots += in.cache.length(shape.row(r));
    evict_memory m{};
    m.offsets = from.take<offset_t>(rows + 1);
    m.scores = from.take<float>(slots);
    const auto scorer = policy.scorer();
    m.score = score_memory::take(from, scorer, extent_of(in, longest_row(in)), workers);
    m.select =
        select_memory::take(from, policy, rows, slots, longest_row(in), largest_pool(shape, pools_of(in)), workers);
    if constexpr (Inputs::template has<input_kind::ranks> && decltype(policy.rule())::joint)
      m.ranks = rank_scratch::take(from, shape, greatest(0, in.template get<input_kind::ranks>().kv_heads));
    return m;
  }
};

/// The longest row of given scores; offsets that are wrong are refused by the call that reads them.
[[nodiscard]] inline index_t longest_row(const ragged<const float>& scores) {
  index_t longest = 0;
  if (scores.offsets == nullptr) return 0;
  for (index_t r = 0; r < scores.rows; ++r) longest = greatest(longest, scores.length(r));
  return longest;
}

[[nodiscard]] inline offset_t slots_of(const ragged<const float>& scores) {
  return scores.offsets == nullptr || scores.rows < 1 ? 0 : scores.offsets[scores.rows] - scores.offsets[0];
}

}  // namespace kvevict::detail
