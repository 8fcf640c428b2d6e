// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/core/status.hpp>
#include <kvevict/cpu/backend.hpp>
#include <kvevict/cpu/budget/adaptive.hpp>
#include <kvevict/cpu/detail/pieces.hpp>
#include <kvevict/view/inputs.hpp>

/// Joint budgets of pools that are the caller's own.
namespace kvevict::detail {

[[nodiscard]] inline status check_pools(const cache_shape& shape, const budget_pool_view& pools) {
  if (pools.pool_of_row == nullptr) return {};
  if (const status s = check_pool_count(pools, shape.rows()); !s.ok()) return s;
  for (index_t r = 0; r < shape.rows(); ++r)
    if (pools.pool_of_row[r] < 0 || pools.pool_of_row[r] >= pools.pools)
      return {status_code::bad_shape, "budget_pools", "a row's pool must be from 0 to pools - 1"};
  return {};
}

/// Rows by pool, ascending inside each: pool p is row[first[p]] .. row[first[p + 1]] (excluded).
struct pool_lists {
  index_t* first;
  index_t* row;

  static pool_lists take(carver& from, index_t rows) {
    return {from.take<index_t>(rows + 1), from.take<index_t>(rows)};
  }
  /// Counting sort.
  void fill(index_t rows, const budget_pool_view& view) const {
    for (index_t p = 0; p <= view.pools; ++p) first[p] = 0;
    for (index_t r = 0; r < rows; ++r) ++first[view.pool_of_row[r] + 1];
    for (index_t p = 0; p < view.pools; ++p) first[p + 1] += first[p];
    for (index_t r = 0; r < rows; ++r) row[first[view.pool_of_row[r]]++] = r;
    for (index_t p = view.pools; p > 0; --p) first[p] = first[p - 1];
    first[0] = 0;
  }
};

/// budgets [rows]: the final ones. `row(r)` is a pool_row, `scratch(worker)` the pool_scratch of a worker.
template <class Executor, class Rule, class Row, class Scratch>
void share_budgets(const cpu<Executor>& on, const Rule& rule, index_t rows, const budget_pool_view& view,
                   const pool_lists& lists, const Row& row, index_t* budgets, const Scratch& scratch) {
  lists.fill(rows, view);
  const auto slots_of = [&](index_t pool) {
    offset_t slots = 0;
    for (index_t i = lists.first[pool]; i < lists.first[pool + 1]; ++i) slots += row(lists.row[i]).length;
    return slots;
  };
  run_in_groups(on.how, view.pools, slots_of, [&](index_t pool, index_t worker, const auto& each) {
    const index_t* const members = lists.row + lists.first[pool];
    share_pool(
        rule, lists.first[pool + 1] - lists.first[pool], [&](index_t i) { return row(members[i]); },
        [&](index_t i) -> index_t& { return budgets[members[i]]; }, scratch(worker), each);
  });
}

}  // namespace kvevict::detail
