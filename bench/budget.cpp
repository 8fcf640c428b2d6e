// SPDX-License-Identifier: MIT
#include "given_scores.hpp"

using namespace kvevict;
using namespace bench;

namespace {

/// Joint budgets of the 8 heads of each layer and the selection by them.
template <budget::safeguard Kind>
void adaptive_selection(benchmark::State& state) {
  const given_scores given(index_t(state.range(0)), index_t(state.range(1)));
  const auto budget = index_t(state.range(2));
  const cpu on{openmp{.threads = index_t(state.range(3))}};
  const host::composed policy{score::recency{}, budget::adaptive{budget::uniform{slots(budget)}, 0.2, Kind},
                              protect{4, slots(32)}};
  outputs out(offset_t{given.rows()} * budget, given.rows(), workspace_bytes(on, policy, given.in()));
  verify(select(on, policy, given.in(), out.kept(), out.workspace()).ok(), "select");
  for (index_t first = 0; first < given.rows(); first += kv_heads) {
    std::vector<oracle::pool_row> pool;
    for (index_t h = 0; h < kv_heads; ++h) pool.push_back({given.row(first + h), budget, 4, 32});
    const std::vector<index_t> budgets = oracle::adaptive(pool, 0.2, Kind);
    for (index_t h = 0; h < kv_heads; ++h)
      verify(std::ranges::equal(out.kept()[first + h],
                                oracle::select(pool[std::size_t(h)].scores, budgets[std::size_t(h)], 4, 32)),
             "joint selection");
  }
  const double seconds = seconds_of(
      state, [&] { benchmark::DoNotOptimize(select(on, policy, given.in(), out.kept(), out.workspace()).ok()); });
  count_keys(state, seconds, double(given.scores.size()));
}

BENCHMARK(adaptive_selection<budget::safeguard::mixture>)
    ->Name("budget/adaptive_mixture_and_select")
    ->Apply(score_sizes);
BENCHMARK(adaptive_selection<budget::safeguard::minimum>)
    ->Name("budget/adaptive_minimum_and_select")
    ->Apply(score_sizes);

}  // namespace
