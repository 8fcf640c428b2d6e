// SPDX-License-Identifier: MIT
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <kvevict/cpu.hpp>
#include <kvevict/view/row_scores.hpp>

#include "../support/host.hpp"
#include "on_device_score.hpp"

/// What must come out on the device: what comes out on the CPU.
namespace on_device {

/// Replays of a graph; KVEVICT_RUNS asks for fewer where a tool makes each of them slow.
[[nodiscard]] inline int runs() {
  const char* const said = std::getenv("KVEVICT_RUNS");
  return said == nullptr ? 100 : std::max(1, std::atoi(said));
}
/// Whether a tool makes everything slow (KVEVICT_LIGHT is set): then the least that runs every kernel.
[[nodiscard]] inline bool light() { return std::getenv("KVEVICT_LIGHT") != nullptr; }

/// f(policy) for every policy, and for head-wise budgets on those that differ.
template <class F>
void each_policy(const kvevict::amount& budget, const F& f) {
  using namespace kvevict;
  f(full{});
  f(kvevict::random{.budget = budget, .seed = 3, .recent = 5});
  f(streaming_llm{.budget = budget});
  f(knorm{.budget = budget, .sinks = 2});
  f(keydiff{.budget = budget, .recent = 3});
  f(adakv{decayed_keydiff{.budget = budget}});
  f(accumulated_attention{.budget = budget});
  f(h2o{.budget = budget});
  f(tova{.budget = budget});
  f(snapkv<>{.budget = budget});
  f(snapkv<score::avg_pool>{.budget = budget, .window = 16, .pool_width = 5, .sinks = 4});
  f(nacl{.budget = budget, .seed = 5});
  f(pyramidkv<>{.budget = budget});
  f(ahakv<>{.budget = budget, .gain_floor = 0.1});
  f(adakv{snapkv<>{.budget = budget}});
  f(adakv{pyramidkv<>{.budget = budget}, 0.5, budget::safeguard::minimum});
  f(adakv{ahakv<>{.budget = budget}});
}

/// The largest difference of scores that the order of sums and the device's exponential explain, beside the largest
/// score of the row: 4e-6 on the host, where sums are rounded to nearest. Tensor cores cut bits of partial sums off, all
/// to the same side, and by how much is not documented.
inline constexpr double bound_of_double = 2e-5, bound_of_cpu = 4e-5;

/// Slots of a row whose score may be another one altogether: where two scores tie within the bound, NACL spares one of
/// them and draws for the other.
template <class Policy>
inline constexpr int flips_of = std::is_same_v<Policy, kvevict::nacl> ? 2 : 0;

/// Whether scores, row after row, are within `bound` of what is expected; NaN is not.
template <class Number>
void check_near(const std::vector<float>& got, const std::vector<std::vector<Number>>& expected, double bound,
                int flips = 0) {
  std::size_t at = 0;
  for (std::size_t r = 0; r < expected.size(); ++r) {
    double largest = 0;
    for (const Number x : expected[r]) largest = std::max(largest, std::abs(double(x)));
    int off = 0;
    for (std::size_t j = 0; j < expected[r].size(); ++j, ++at) {
      if (std::abs(double(got[at]) - double(expected[r][j])) <= bound * largest) continue;
      REQUIRE_MESSAGE(++off <= flips, "row " << r << ", slot " << j << ": " << got[at] << " for " << expected[r][j]
                                             << ", the largest score is " << largest);
    }
  }
  REQUIRE(at == got.size());
}

/// Scores of every row on the CPU, from the same numbers as floats.
template <given Given, class Policy>
[[nodiscard]] std::vector<std::vector<float>> scores_on_host(const Policy& policy, const host::content<float>& c,
                                                             const beside& extra) {
  auto stored = host::in_strides(c, "hnd", kvevict::hnd);
  return host::score(policy, inputs_of<Given>(stored.cache(), c.query_rows_view(), extra,
                                              {extra.log_sum_exp.data(), extra.value_norms.data(),
                                               extra.positions.data(), extra.seen.data()}));
}

/// What the CPU keeps by given scores.
template <class Policy>
[[nodiscard]] host::kept selected_on_host(const Policy& policy, const kvevict::row_scores& scores) {
  host::kept out;
  const auto rows = static_cast<std::size_t>(scores.shape.rows());
  out.slots.resize(static_cast<std::size_t>(scores.scores.offsets[rows]));
  out.offsets.resize(rows + 1);
  out.receipts.resize(rows);
  host::scratch memory(kvevict::workspace_bytes(kvevict::cpu{}, policy, scores));
  out.status = kvevict::select(kvevict::cpu{}, policy, scores, out.view(), memory.get());
  return out;
}

inline void check_receipts(const std::vector<kvevict::row_receipt>& got,
                           const std::vector<kvevict::row_receipt>& expected) {
  REQUIRE(got.size() == expected.size());
  for (std::size_t r = 0; r < got.size(); ++r) {
    const kvevict::row_receipt &a = got[r], &e = expected[r];
    CAPTURE(r);
    REQUIRE(a.retained == e.retained);
    REQUIRE(a.evicted == e.evicted);
    REQUIRE(a.bytes_freed == e.bytes_freed);
    REQUIRE((a.threshold == e.threshold || (std::isnan(a.threshold) && std::isnan(e.threshold))));
    REQUIRE((std::isnan(a.score_share) == std::isnan(e.score_share)));
    if (!std::isnan(e.score_share)) REQUIRE(a.score_share == doctest::Approx(e.score_share).epsilon(1e-5));
  }
}

/// Whether an eviction kept exactly what the CPU keeps by the scores that it had.
template <class Policy>
void check_selection(const Policy& policy, const kvevict::cache_shape& shape, const std::vector<index_t>& lengths,
                     const evicted& got, offset_t entry_bytes) {
  std::vector<offset_t> offsets{0};
  for (const index_t n : lengths) offsets.push_back(offsets.back() + n);
  const host::kept expected = selected_on_host(
      policy, {shape, {got.scores.data(), offsets.data(), static_cast<index_t>(shape.rows())}, {}, entry_bytes});
  REQUIRE(expected.status.ok());
  REQUIRE(got.offsets == expected.offsets);
  const auto kept = static_cast<std::ptrdiff_t>(expected.offsets.back());
  REQUIRE(std::equal(expected.slots.begin(), expected.slots.begin() + kept, got.slots.begin()));
  check_receipts(got.receipts, expected.receipts);
}

}  // namespace on_device
