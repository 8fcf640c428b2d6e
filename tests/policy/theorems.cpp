// SPDX-License-Identifier: MIT
// The theorems of the two papers, as properties of this code.
#include <doctest/doctest.h>

#include "../support/oracle.hpp"

using namespace kvevict;
using host::composed;
using host::problem;

TEST_CASE("AhaKV: the accumulated score of exchangeable weights falls with position, E[S_j] = H_n - H_(j-1)") {
  constexpr index_t n = 40, trials = 1500;
  std::vector<double> mean(n, 0.0);
  for (index_t t = 0; t < trials; ++t) {
    const problem p(1, 1, n, 8, 1, n, 1000 + unsigned(t));
    const auto s = host::score(composed{score::accumulated_attention() | score::group_mean{}}, p.in())[0];
    for (std::size_t j = 0; j < n; ++j) mean[j] += double(s[j]) / trials;
  }
  double harmonic = 0;
  for (index_t j = n - 1; j >= 0; --j) {
    harmonic += 1.0 / (j + 1);  // H_n - H_j with j from 0
    CAPTURE(j);
    CHECK(mean[std::size_t(j)] == doctest::Approx(harmonic).epsilon(0.06));
  }
}

TEST_CASE("AhaKV: recent accumulation gives every candidate the same number of terms") {
  // With all logits equal a row of i slots weighs 1/i everywhere: no candidate is favoured.
  problem p(1, 1, 50, 4, 1, 50);
  std::fill(p.queries.begin(), p.queries.end(), 0.0F);
  const auto recent = host::score(composed{score::attention<>{.window = 8} | score::group_mean{}}, p.in())[0];
  for (std::size_t j = 1; j <= 42; ++j) CHECK(recent[j] == recent[0]);
  const auto all = host::score(composed{score::accumulated_attention() | score::group_mean{}}, p.in())[0];
  for (std::size_t j = 1; j < 50; ++j) CHECK(all[j] < all[j - 1]);
}

TEST_CASE("AhaKV: the step gain brings the entropy of a row to ln k, whatever its length") {
  constexpr index_t k = 128;
  for (const index_t n : {2 * k, 8 * k, 16 * k}) {
    double step = 0, plain = 0;
    constexpr int trials = 12;
    for (int t = 0; t < trials; ++t) {
      const problem p(1, 1, n, 128, 1, 1, 77 + unsigned(t));
      const auto entropy = [](const std::vector<float>& a) {
        double h = 0;
        for (const float x : a) h -= x > 0 ? double(x) * std::log(double(x)) : 0;
        return h;
      };
      using aha = score::attention<score::step_gain>;
      step +=
          entropy(host::score(composed{aha{.window = 1} | score::group_mean{}, budget::uniform{slots(k)}}, p.in())[0]);
      plain += entropy(host::score(composed{score::attention<>{.window = 1} | score::group_mean{}}, p.in())[0]);
    }
    CAPTURE(n);
    CHECK(step / trials == doctest::Approx(std::log(double(k))).epsilon(0.05));
    CHECK(plain / trials == doctest::Approx(std::log(double(n)) - 0.5).epsilon(0.05));
  }
  CHECK(score::step_gain{}(2 * k, k) == doctest::Approx(std::sqrt(2 * std::log(2.0))));
  CHECK(score::step_gain{}(k, k) == 0);
  CHECK(score::step_gain{}(k - 1, k) == 0);
  CHECK(score::step_gain{0.5}(k, k) == 0.5);
}

TEST_CASE("Ada-KV: ||A - A'||_1 = 2 (1 - kept mass), and the output stays within the bound") {
  std::mt19937 g(3);
  for (int round = 0; round < 50; ++round) {
    const problem p(2, 1, 30, 6, 5, 1, 500 + unsigned(round));
    double distance = 0, lost = 0, largest = 0;
    for (index_t h = 0; h < 2; ++h) {
      const auto a = oracle::softmax_row(p, h, 0, 30, 1);
      std::vector<bool> kept(30);
      double mass = 0, l1 = 0;
      for (std::size_t j = 0; j < 30; ++j) {
        kept[j] = j == 0 || g() % 3 == 0;
        mass += kept[j] ? a[j] : 0;
        double row = 0;
        for (std::size_t d = 0; d < 5; ++d) row += std::abs(double(p.values[(std::size_t(h) * 30 + j) * 5 + d]));
        largest = std::max(largest, row);
      }
      std::vector<double> difference(5, 0.0);
      for (std::size_t j = 0; j < 30; ++j) {
        const double change = a[j] - (kept[j] ? a[j] / mass : 0);
        l1 += std::abs(change);
        for (std::size_t d = 0; d < 5; ++d)
          difference[d] += change * double(p.values[(std::size_t(h) * 30 + j) * 5 + d]);
      }
      CHECK(l1 == doctest::Approx(2 * (1 - mass)).epsilon(1e-9));
      lost += 1 - mass;
      for (const double x : difference) distance += std::abs(x);
    }
    CHECK(distance <= 2 * largest * lost + 1e-12);
  }
}

TEST_CASE("Ada-KV: top-k per head is optimal for given budgets, the joint top-B over all splits (exhaustively)") {
  for (unsigned seed = 0; seed < 30; ++seed) {
    const problem p(2, 1, 6, 4, 1, 1, 900 + seed);
    const auto a = host::score(composed{score::observation_window(1) | score::group_mean{}}, p.in());
    const auto mass = [&](const std::vector<std::vector<index_t>>& rows) {
      double m = 0;
      for (std::size_t h = 0; h < 2; ++h)
        for (const index_t j : rows[h]) m += double(a[h][std::size_t(j)]);
      return m;
    };
    double best_split = 0, best_three = 0;  // over all subsets with 6 slots in all; with 3 and 3
    for (unsigned bits = 0; bits < 4096; ++bits) {
      if (std::popcount(bits) != 6) continue;
      double m = 0;
      for (unsigned b = 0; b < 12; ++b) m += (bits >> b & 1U) != 0 ? double(a[b / 6][b % 6]) : 0;
      best_split = std::max(best_split, m);
      if (std::popcount(bits & 63U) == 3) best_three = std::max(best_three, m);
    }
    const auto scorer = score::observation_window(1) | score::group_mean{};
    const composed uniform{scorer, budget::uniform{slots(3)}};
    const composed joint{scorer, budget::adaptive{budget::uniform{slots(3)}, 0.0}};
    CHECK(mass(host::evict(uniform, p.in()).rows()) == doctest::Approx(best_three).epsilon(1e-7));
    CHECK(mass(host::evict(joint, p.in()).rows()) == doctest::Approx(best_split).epsilon(1e-7));
  }
}
