// SPDX-License-Identifier: MIT
#include "given_scores.hpp"

using namespace kvevict;
using namespace bench;

namespace {

void uniform_selection(benchmark::State& state) {
  const given_scores given(index_t(state.range(0)), index_t(state.range(1)));
  const auto budget = index_t(state.range(2));
  const cpu on{openmp{.threads = index_t(state.range(3))}};
  const host::composed policy{score::recency{}, budget::uniform{slots(budget)}, protect{4, slots(32)}};
  outputs out(offset_t{given.rows()} * budget, given.rows(), workspace_bytes(on, policy, given.in()));
  verify(select(on, policy, given.in(), out.kept(), out.workspace()).ok(), "select");
  for (index_t r = 0; r < given.rows(); ++r)
    verify(std::ranges::equal(out.kept()[r], oracle::select(given.row(r), budget, 4, 32)), "selected slots");
  const double seconds = seconds_of(
      state, [&] { benchmark::DoNotOptimize(select(on, policy, given.in(), out.kept(), out.workspace()).ok()); });
  count_keys(state, seconds, double(given.scores.size()));
}

/// What one would write with the standard library: a partial order of the indices, then ascending slots.
void nth_element_and_sort(benchmark::State& state) {
  const given_scores given(1, index_t(state.range(0)));
  const auto budget = state.range(1);
  std::vector<index_t> order(std::size_t(given.length));
  const double seconds = seconds_of(state, [&] {
    for (index_t h = 0; h < kv_heads; ++h) {
      const float* s = given.scores.data() + given.offsets[std::size_t(h)];
      std::iota(order.begin(), order.end(), 0);
      std::nth_element(order.begin(), order.begin() + budget, order.end(),
                       [s](index_t a, index_t b) { return s[a] > s[b]; });
      std::sort(order.begin(), order.begin() + budget);
      benchmark::DoNotOptimize(order.data());
    }
  });
  count_keys(state, seconds, double(given.scores.size()));
}

BENCHMARK(uniform_selection)->Name("select/uniform")->Apply(score_sizes);
BENCHMARK(nth_element_and_sort)
    ->Name("select/anchor/nth_element_and_sort")
    ->ArgNames({"keys", "budget"})
    ->Args({4096, 1024})
    ->Args({32768, 1024})
    ->UseRealTime()
    ->Unit(benchmark::kMicrosecond);

}  // namespace
