// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/core/workspace.hpp>
#include <kvevict/cpu/budget/across_ranks.hpp>
#include <kvevict/cpu/budget/share.hpp>
#include <kvevict/cpu/score/score.hpp>
#include <kvevict/cpu/select/select.hpp>
#include <kvevict/view/row_scores.hpp>

/// How an eviction divides its workspace, and the checks of what it writes to.
namespace kvevict::detail {

/// The parts of a workspace; one function, so that measuring and placing agree.
struct select_memory {
  index_t* budgets;
  pool_lists pools;
  index_t largest_pool;  ///< rows
  std::byte* pool_memory;
  offset_t pool_memory_bytes;

  template <class Policy>
  static select_memory take(carver& from, const Policy& policy, const cache_shape& shape, const budget_pool_view& own,
                            index_t workers) {
    const auto rows = check(shape).ok() ? static_cast<index_t>(shape.rows()) : 0;  // otherwise the call refuses it
    select_memory m{};
    m.budgets = from.take<index_t>(rows);
    if constexpr (decltype(policy.rule())::joint) {
      m.pools = pool_lists::take(from, rows);
      m.largest_pool = own.pool_of_row != nullptr ? rows : least(rows, shape.kv_heads);
      carver one;
      pool_scratch::take(one, m.largest_pool);
      m.pool_memory_bytes = one.bytes();
      m.pool_memory = from.take<std::byte>(one.bytes() * workers);
    }
    return m;
  }
  [[nodiscard]] pool_scratch scratch_of(index_t worker) const {
    carver place(pool_memory + worker * pool_memory_bytes);
    return pool_scratch::take(place, largest_pool);
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
    for (row_id row; shape.has(row); row = shape.after(row)) slots += in.cache.length(row);
    evict_memory m{};
    m.offsets = from.take<offset_t>(rows + 1);
    m.scores = from.take<float>(slots);
    const auto scorer = policy.scorer();
    m.score = score_memory::take(from, scorer, extent_of(in, longest_row(in)), workers);
    m.select = select_memory::take(from, policy, shape, pools_of(in), workers);
    if constexpr (Inputs::template has<input_kind::ranks> && decltype(policy.rule())::joint)
      m.ranks = rank_scratch::take(from, shape, greatest(0, in.template get<input_kind::ranks>().kv_heads));
    return m;
  }
};

}  // namespace kvevict::detail
