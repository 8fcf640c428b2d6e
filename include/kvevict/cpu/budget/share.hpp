// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/core/status.hpp>
#include <kvevict/cpu/backend.hpp>
#include <kvevict/cpu/budget/adaptive.hpp>
#include <kvevict/view/inputs.hpp>

/// Shares joint budgets, pool by pool.
namespace kvevict::detail {

[[nodiscard]] inline status check_pools(const cache_shape& shape, const budget_pool_view& pools) {
  if (pools.pool_of_row == nullptr) return {};
  if (const status s = check_pool_count(pools, shape.rows()); !s.ok()) return s;
  for (index_t r = 0; r < shape.rows(); ++r)
    if (pools.pool_of_row[r] < 0 || pools.pool_of_row[r] >= pools.pools)
      return {status_code::bad_shape, "budget_pools", "a row's pool must be from 0 to pools - 1"};
  return {};
}

/// Rows of the largest pool. The caller's pools can be of any size, so they are measured as one of all rows.
[[nodiscard]] inline index_t largest_pool(const cache_shape& shape, const budget_pool_view& pools) {
  return pools.pool_of_row != nullptr ? static_cast<index_t>(shape.rows()) : shape.kv_heads;
}

/// Rows by pool, ascending inside each: pool p is row[first[p]] .. row[first[p + 1]] (excluded).
struct pool_lists {
  index_t* first;
  index_t* row;

  static pool_lists take(carver& from, index_t rows) {
    return {from.take<index_t>(rows + 1), from.take<index_t>(rows)};
  }
  /// Counting sort; returns the number of pools.
  [[nodiscard]] index_t fill(const cache_shape& shape, const budget_pool_view& view) const {
    const auto rows = static_cast<index_t>(shape.rows());
    const auto pool_of = [&](index_t r) {
      return view.pool_of_row != nullptr ? view.pool_of_row[r] : r / shape.kv_heads;
    };
    const index_t pools = view.pool_of_row != nullptr ? view.pools : shape.layers * shape.seqs;
    for (index_t p = 0; p <= pools; ++p) first[p] = 0;
    for (index_t r = 0; r < rows; ++r) ++first[pool_of(r) + 1];
    for (index_t p = 0; p < pools; ++p) first[p + 1] += first[p];
    for (index_t r = 0; r < rows; ++r) row[first[pool_of(r)]++] = r;
    for (index_t p = pools; p > 0; --p) first[p] = first[p - 1];
    first[0] = 0;
    return pools;
  }
};

/// budgets [rows]: the final ones. `row(r)` is a pool_row. Pools are shared side by side, or, where there are fewer
/// than workers, one after the other and the rows of each side by side.
template <class Executor, class Rule, class Row, class Memory>
void share_budgets(const cpu<Executor>& on, const Rule& rule, const cache_shape& shape, const budget_pool_view& view,
                   const Row& row, index_t* budgets, const Memory& memory) {
  const index_t pools = memory.pools.fill(shape, view);
  const index_t most_rows = largest_pool(shape, view);
  const auto share = [&](index_t pool, index_t worker, const auto& each) {
    const index_t* rows = memory.pools.row + memory.pools.first[pool];
    carver place(memory.pool_memory + worker * memory.pool_memory_bytes);
    share_pool(
        rule, memory.pools.first[pool + 1] - memory.pools.first[pool], [&](index_t i) { return row(rows[i]); },
        [&](index_t i) -> index_t& { return budgets[rows[i]]; }, pool_scratch::take(place, most_rows), each);
  };
  if (pools >= on.how.workers()) {
    on.how.run(pools, [&](index_t pool, index_t worker) {
      share(pool, worker, [](index_t n, const auto& f) {
        for (index_t i = 0; i < n; ++i) f(i);
      });
    });
  } else {
    for (index_t pool = 0; pool < pools; ++pool)
      share(pool, 0, [&](index_t n, const auto& f) { on.how.run(n, [&](index_t i, index_t) { f(i); }); });
  }
}

}  // namespace kvevict::detail
