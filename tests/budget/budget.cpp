// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include "../support/oracle.hpp"

using namespace kvevict;

namespace {

std::vector<offset_t> pyramid_of(index_t length, amount size, index_t layers, index_t window) {
  std::vector<offset_t> out;
  for (index_t l = 0; l < layers; ++l)
    out.push_back(budget::pyramid{size, 20}.nominal(cache_shape{layers, 1, 1}, {{l, 0, 0, l}, length, window}));
  return out;
}

double mean(const std::vector<offset_t>& x) {
  double sum = 0;
  for (const offset_t n : x) sum += double(n);
  return sum / double(x.size());
}

/// Selects with given scores and returns how many slots each row keeps; which ones is compared with a full sort.
template <class Rule>
std::vector<index_t> budgets(const std::vector<std::vector<float>>& scores, const Rule& rule, protect p = {},
                             budget_pool_view pools = {}, cache_shape shape = {}) {
  std::vector<float> flat;
  std::vector<offset_t> offsets{0};
  for (const auto& row : scores) {
    flat.insert(flat.end(), row.begin(), row.end());
    offsets.push_back(offset_t(flat.size()));
  }
  if (shape == cache_shape{}) shape.kv_heads = index_t(scores.size());
  const host::composed policy{score::recency{}, rule, p};
  const row_scores in{shape, {flat.data(), offsets.data(), index_t(scores.size())}, pools};
  std::vector<index_t> slots(flat.size());
  std::vector<offset_t> kept(offsets.size());
  host::scratch memory(workspace_bytes(cpu{}, policy, in));
  const status s = select(cpu{}, policy, in, selection{slots, kept}, memory.get());
  REQUIRE_MESSAGE(s.ok(), s.sentence);
  std::vector<index_t> out;
  for (std::size_t r = 0; r < scores.size(); ++r) {
    out.push_back(index_t(kept[r + 1] - kept[r]));
    const auto length = index_t(scores[r].size());
    const protected_slots of_row = p.of(length, length);
    const std::vector<index_t> row(slots.begin() + kept[r], slots.begin() + kept[r + 1]);
    CHECK(row == oracle::select(scores[r], out.back(), of_row.sinks, of_row.recent));
  }
  return out;
}

using counts = std::vector<index_t>;

}  // namespace

TEST_CASE("amounts are exact") {
  CHECK(percent(10).of(100) == 10);
  CHECK(percent(90).of(1000) == 900);
  CHECK(percent(12.5).of(1001) == 125);
  CHECK(slots(7).of(3) == 7);
  for (index_t n = 1; n < 5000; ++n) REQUIRE(percent(10).of(n) == n / 10);
  for (index_t p = 0; p <= 100; ++p)  // 29 % of 100 is 29, though 0.29 * 100 is less
    for (index_t n = 1; n < 50; ++n) REQUIRE(percent(p).of(100 * n) == p * n);
}

TEST_CASE("PyramidKV: vectors of kvpress' formula") {
  const auto half = pyramid_of(4096, percent(50), 32, 64);
  CHECK(half[0] == 3994);
  CHECK(half[1] == 3868);
  CHECK(half[30] == 228);
  CHECK(half[31] == 102);
  CHECK(mean(half) == 2048.0);
  const auto most = pyramid_of(1024, percent(90), 32, 64);
  CHECK(most[0] == 960);
  CHECK(most[1] == 958);
  CHECK(most[30] == 886);
  CHECK(most[31] == 883);
  CHECK(mean(most) == 921.625);
  CHECK(pyramid_of(1024, percent(20), 32, 64) == std::vector<offset_t>(32, 205));  // low < window: uniform
  CHECK(pyramid_of(128, percent(80), 2, 2) == std::vector<offset_t>{126, 79});
  CHECK(pyramid_of(100, slots(40), 1, 2) == std::vector<offset_t>{40});
}

TEST_CASE("PyramidKV: a call per layer gives what one call gives") {
  const budget::pyramid rule{slots(400), 20};
  for (index_t l = 0; l < 8; ++l)
    CHECK(rule.nominal({1, 1, 1, l, 8}, {{0, 0, 0, 0}, 4000, 8}) == rule.nominal({8, 1, 1}, {{l, 0, 0, l}, 4000, 8}));
}

TEST_CASE("Ada-KV: the reference vectors") {
  const std::vector<std::vector<float>> s{{.40F, .30F, .05F, .05F, .02F}, {.20F, .18F, .16F, .15F, .01F}};
  const auto of = [&](double floor, budget::safeguard kind) {
    return budgets(s, budget::adaptive{budget::uniform{slots(3)}, floor, kind});
  };
  using enum budget::safeguard;
  CHECK(of(0, mixture) == counts{2, 4});
  CHECK(of(.2, mixture) == counts{2, 4});  // 2.2 and 3.8: the authors' rounding loses nothing here, 2 + 3 = 5 in theirs
  CHECK(of(.5, mixture) == counts{3, 3});  // 2.5 and 3.5: equal remainders, the smaller row
  CHECK(of(1, mixture) == counts{3, 3});
  CHECK(of(0, minimum) == counts{2, 4});
  CHECK(of(.2, minimum) == counts{2, 4});
  CHECK(of(.5, minimum) == counts{2, 4});
  CHECK(of(1, minimum) == counts{3, 3});
}

TEST_CASE("Ada-KV: mixture and minimum differ as published") {
  std::vector<float> high(200, 1), low(200, 0);
  const auto of = [&](const std::vector<std::vector<float>>& s, budget::safeguard kind) {
    return budgets(s, budget::adaptive{budget::uniform{slots(50)}, .2, kind});
  };
  using enum budget::safeguard;
  CHECK(of({high, low}, mixture) == counts{90, 10});  // c = [100, 0]
  CHECK(of({high, low}, minimum) == counts{90, 10});
  std::vector<float> sixty(200, 0), forty(200, 0);
  std::fill_n(sixty.begin(), 60, 1.0F);
  std::fill_n(forty.begin(), 40, 1.0F);
  CHECK(of({sixty, forty}, mixture) == counts{58, 42});
  CHECK(of({sixty, forty}, minimum) == counts{60, 40});
}

TEST_CASE("Ada-KV: random pools against the oracle, ties and NaN included") {
  std::mt19937 g(5);
  for (int round = 0; round < 400; ++round) {
    const auto rows = 1 + g() % 5;
    const index_t sinks = index_t(g() % 3), recent = index_t(g() % 4);
    std::vector<oracle::pool_row> pool(rows);
    std::vector<std::vector<float>> scores;
    const index_t budget = std::max<index_t>(1, sinks + recent + index_t(g() % 10));
    for (auto& row : pool) {
      row.scores.resize(std::size_t(budget) + g() % 20);
      for (float& x : row.scores) x = g() % 9 == 0 ? std::nanf("") : float(g() % 6) - (round % 2 ? 2.5F : 0.0F);
      row.nominal = budget;
      row.sinks = sinks;
      row.recent = recent;
      scores.push_back(row.scores);
    }
    const double floor = double(g() % 11) / 10.0;
    for (const auto kind : {budget::safeguard::mixture, budget::safeguard::minimum}) {
      CAPTURE(round);
      CHECK(budgets(scores, budget::adaptive{budget::uniform{slots(budget)}, floor, kind},
                    protect{sinks, slots(recent)}) == oracle::adaptive(pool, floor, kind));
    }
  }
}

TEST_CASE("Ada-KV: long rows, heads on very different scales, rows shorter than their share, floors that bind") {
  std::mt19937 g(6);
  std::normal_distribution<float> normal;
  for (int round = 0; round < 120; ++round) {
    const auto rows = round % 60 == 0 ? 80 : 2 + g() % 7;
    const index_t sinks = index_t(g() % 3), recent = index_t(g() % 30);
    const index_t budget = sinks + recent + 1 + index_t(g() % 700);
    const auto most = rows > 8 ? 200U : round % 24 == 1 ? 30000U : 4000U;
    std::vector<oracle::pool_row> pool(rows);
    std::vector<std::vector<float>> scores;
    for (std::size_t r = 0; r < rows; ++r) {
      oracle::pool_row& row = pool[r];
      const bool shorter = g() % 4 == 0;
      row.scores.resize(std::size_t(sinks + recent) + (shorter ? g() % 300 : 400 + g() % most));
      if (row.scores.empty()) row.scores.resize(1);
      for (std::size_t j = 0; j < row.scores.size(); ++j)
        row.scores[j] = round % 5 == 0   ? std::exp(3 * normal(g) - float(r))
                        : round % 5 == 1 ? float(g() % 50) + float(r % 2) * 20
                        : round % 5 == 2 ? normal(g) + 3 * float(r)
                                         // what every second slot says is wrong for the others, either way
                                         : normal(g) + (j % 2 == std::size_t(round % 5 - 3) ? 5.0F : 0.0F);
      row.nominal = budget;
      row.sinks = sinks;
      row.recent = recent;
      scores.push_back(row.scores);
    }
    const double floor = double(g() % 11) / 10.0;
    for (const auto kind : {budget::safeguard::mixture, budget::safeguard::minimum}) {
      CAPTURE(round);
      CHECK(budgets(scores, budget::adaptive{budget::uniform{slots(budget)}, floor, kind},
                    protect{sinks, slots(recent)}) == oracle::adaptive(pool, floor, kind));
    }
  }
}

TEST_CASE("Ada-KV: pools of the caller's choice; without them the kv_heads of a sequence share") {
  std::vector<std::vector<float>> s{{9, 9, 9, 9}, {1, 1, 1, 1}, {8, 8, 8, 8}, {2, 2, 2, 2}};
  const budget::adaptive rule{budget::uniform{slots(2)}, 0.0};
  const cache_shape shape{2, 1, 2};
  CHECK(budgets(s, rule, {}, {}, shape) == counts{4, 0, 4, 0});
  const index_t crossed[] = {0, 1, 1, 0};
  CHECK(budgets(s, rule, {}, {crossed, 2}, shape) == counts{4, 0, 4, 0});
  const index_t one[] = {0, 0, 0, 0};
  CHECK(budgets(s, rule, {}, {one, 1}, shape) == counts{4, 0, 4, 0});
  s[1] = {10, 10, 10, 10};
  CHECK(budgets(s, rule, {}, {one, 1}, shape) == counts{4, 4, 0, 0});
  CHECK(budgets(s, rule, {}, {}, shape) == counts{0, 4, 4, 0});
}

TEST_CASE("Ada-KV: a pool whose budgets are all protected slots has nothing to share") {
  const std::vector<std::vector<float>> s{{5, 1, 2, 3}, {9, 9, 9, 9}};
  for (const auto kind : {budget::safeguard::mixture, budget::safeguard::minimum})
    CHECK(budgets(s, budget::adaptive{budget::uniform{slots(3)}, 0.2, kind}, protect{1, slots(2)}) == counts{3, 3});
}
