// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include "../support/oracle.hpp"

using namespace kvevict;
using host::composed;
using host::problem;

namespace {

void check_near(const std::vector<float>& got, const oracle::vec& expected, double tolerance = 3e-6) {
  REQUIRE(got.size() == expected.size());
  double top = 1e-30;
  for (const double x : expected) top = std::max(top, std::abs(x));
  for (std::size_t j = 0; j < got.size(); ++j) {
    CAPTURE(j);
    CHECK(std::abs(double(got[j]) - expected[j]) <= tolerance * top);
  }
}

constexpr budget::uniform budget_of(index_t n) { return {slots(n)}; }

/// [rows of scores] of one scorer with budget 10.
template <class Scorer, class In>
auto scores(const Scorer& s, const In& in, protect p = {}) {
  return host::score(composed{s, budget_of(10), p}, in);
}

}  // namespace

TEST_CASE("attention: exponentials to within 2e-7, 1 for 0, nothing for what is far below") {
  // One row of one dim, and its log-sum-exp is 0: the weight of a key is its exponential.
  const auto weights = [](std::vector<float> keys) {
    const auto length = index_t(keys.size());
    const float query = 1.0F, lse = 0.0F;
    const key_cache cached{cache_shape{1, 1, 1}, length, entries{keys.data(), hnd(1, 1, length, 1), 1}};
    const query_view rows{entries{&query, hnd(1, 1, 1, 1), 1}, 1, 1};
    const auto got = scores(score::attention<>{.window = 1} | score::group_mean{},
                            inputs{cached, rows, log_sum_exp_view{&lse, {.head = 1, .slot = 1}}});
    return got[0];
  };
  std::vector<float> keys;
  for (float x = -1.0F; x <= 1.0F; x += 1.0F / 32749) keys.push_back(x);
  for (float x = 1.0F; x > 1e-40F; x /= 1.37F) keys.insert(keys.end(), {x, -x});  // close to 0, on both sides
  const auto near = weights(keys);
  double worst = 0;
  for (std::size_t j = 0; j < keys.size(); ++j)
    worst = std::max(worst, std::abs(near[j] / std::exp(double(keys[j])) - 1));
  CHECK(worst <= 3.2e-7);  // and the rounding of the exponent
  CHECK(worst > 0);

  keys.clear();
  for (float x = -87.0F; x <= 3.0F; x += 1.0F / 127) keys.push_back(x);
  const auto wide = weights(keys);
  for (std::size_t j = 0; j < keys.size(); ++j)
    worst = std::max(worst, std::abs(wide[j] / std::exp(double(keys[j])) - 1));
  CHECK(worst <= 1e-5);

  const auto special = weights({0.0F, -0.0F, -90.0F, -1e4F, -1e30F, std::numeric_limits<float>::quiet_NaN()});
  CHECK(special[0] == 1.0F);
  CHECK(special[1] == 1.0F);
  for (const std::size_t j : {2U, 3U, 4U}) {
    CHECK(special[j] >= 0.0F);
    CHECK(special[j] <= 0x1p-126F);
  }
  CHECK(std::isnan(special[5]));
}

TEST_CASE("attention: columns of the window, per-row softmax, group mean") {
  for (const index_t rows : {1, 3, 4, 5, 32, 61})
    for (const index_t dim : {3, 8, 17}) {
      const problem p(2, 3, 61, dim, 4, rows, 7 + unsigned(rows), 1.3F);
      CAPTURE(rows);
      CAPTURE(dim);
      const auto got = scores(score::attention<>{.window = rows} | score::group_mean{}, p.in());
      for (index_t h = 0; h < 2; ++h) check_near(got[std::size_t(h)], oracle::window_mean(p, h, rows));
    }
}

TEST_CASE("attention: more dims than a tile, more query_heads than a chunk, few rows, lengths around a block") {
  struct extent {
    index_t group, length, dim, rows;
  };
  for (const extent e : {extent{1, 70, 128, 9}, extent{2, 70, 129, 9}, extent{1, 60, 300, 60}, extent{40, 50, 5, 3},
                         extent{40, 50, 5, 17}, extent{130, 30, 4, 12}, extent{9, 47, 8, 1}, extent{3, 48, 8, 2},
                         extent{5, 49, 8, 7}, extent{1, 97, 8, 97}, extent{1, 1, 3, 1}}) {
    const problem p(2, e.group, e.length, e.dim, 4, e.rows, 3, 0.8F);
    CAPTURE(e.group);
    CAPTURE(e.length);
    const auto got = scores(score::attention<>{.window = e.rows} | score::group_mean{}, p.in());
    for (index_t h = 0; h < 2; ++h) check_near(got[std::size_t(h)], oracle::window_mean(p, h, e.rows));
    const auto each = scores(score::attention<>{.window = e.rows} | score::group_max{}, p.in());
    oracle::vec top(std::size_t(e.length), 0.0);
    for (index_t g = 0; g < e.group; ++g) {
      const oracle::vec one = oracle::columns(p, g, e.rows, oracle::one, oracle::one);
      for (std::size_t j = 0; j < top.size(); ++j) top[j] = std::max(top[j], one[j]);
    }
    check_near(each[0], top);
  }
}

TEST_CASE("attention: a window smaller than the rows that are given uses the last ones") {
  const problem p(1, 2, 40, 8, 4, 20);
  check_near(scores(score::attention<>{.window = 6} | score::group_mean{}, p.in())[0], oracle::window_mean(p, 0, 6));
}

TEST_CASE("attention: all rows, in chunks; mean over all and over the rows that see a slot") {
  const problem p(1, 2, 300, 8, 4, 300);
  oracle::vec sum = oracle::window_mean(p, 0, 300);
  check_near(scores(score::accumulated_attention() | score::group_mean{}, p.in())[0], sum);
  oracle::vec all = sum, visible = sum;
  for (std::size_t j = 0; j < sum.size(); ++j) all[j] /= 300, visible[j] /= 300.0 - double(j);
  check_near(scores(score::accumulated_attention(score::row_mean::all) | score::group_mean{}, p.in())[0], all);
  check_near(scores(score::accumulated_attention(score::row_mean::visible) | score::group_mean{}, p.in())[0], visible);
}

TEST_CASE("attention: step gain by visible count and budget, with and without a floor") {
  for (const double floor : {0.0, 0.7}) {
    const problem p(2, 2, 50, 8, 4, 45);  // rows with i <= k = 10 included
    const auto gain = [&](index_t i) { return std::max(floor, i > 10 ? std::sqrt(2 * std::log(i / 10.0)) : 0.0); };
    using step = score::attention<score::step_gain>;
    const auto got = scores(step{.window = 45, .gain = {floor}} | score::group_mean{}, p.in());
    for (index_t h = 0; h < 2; ++h) check_near(got[std::size_t(h)], oracle::window_mean(p, h, 45, gain), 1e-5);
  }
}

TEST_CASE("attention: exponential decay over rows") {
  const problem p(1, 1, 50, 8, 4, 50);
  const auto weight = [](index_t age) { return std::exp(-age / 7.0); };
  using decayed = score::attention<score::plain_gain, score::decayed_rows>;
  const auto got = scores(decayed{.window = score::all_rows, .weight = {7}} | score::group_mean{}, p.in());
  check_near(got[0], oracle::columns(p, 0, 50, oracle::one, weight));
}

TEST_CASE("attention: a log-sum-exp in either base gives what two passes give") {
  const problem p(2, 2, 70, 16, 4, 33);
  std::vector<float> natural, binary;
  for (index_t q = 0; q < 4; ++q)
    for (index_t r = 0; r < p.rows; ++r) {
      const index_t visible = p.length - p.rows + r + 1;
      double total = 0;
      for (index_t j = 0; j < visible; ++j) {
        double dot = 0;
        for (index_t d = 0; d < p.dim; ++d)
          dot += double(p.queries[std::size_t((q * p.rows + r) * p.dim + d)]) *
                 double(p.keys[std::size_t((q / 2 * p.length + j) * p.dim + d)]);
        total += std::exp(dot / 4);
      }
      natural.push_back(float(std::log(total)));
      binary.push_back(float(std::log2(total)));
    }
  const strided layout{.head = p.rows, .slot = 1};
  const auto scorer = score::attention<>{.window = 20} | score::group_mean{};
  for (index_t h = 0; h < 2; ++h) {
    const auto expected = oracle::window_mean(p, h, 20);
    const inputs e{p.cache(), p.query_rows(), log_sum_exp_view{natural.data(), layout}};
    const inputs two{p.cache(), p.query_rows(), log_sum_exp_view{binary.data(), layout, log_base::two}};
    check_near(scores(scorer, e)[std::size_t(h)], expected);
    check_near(scores(scorer, two)[std::size_t(h)], expected, 1e-5);
  }
}

TEST_CASE("attention: probabilities that the engine has are used as they are") {
  const problem p(1, 2, 30, 8, 4, 12);
  std::vector<float> given(2 * 12 * 30, std::nanf(""));  // what a row cannot see is not read
  for (index_t q = 0; q < 2; ++q)
    for (index_t r = 0; r < 12; ++r) {
      const auto w = oracle::softmax_row(p, q, r, 18 + r + 1, 1);
      for (std::size_t j = 0; j < w.size(); ++j) given[std::size_t((q * 12 + r) * 30) + j] = float(w[j]);
    }
  const attention_view view{entries{given.data(), hnd(1, 2, 12, 30), index_t{30}}, index_t{2}, index_t{12}};
  const inputs in{p.cache(), view};
  check_near(scores(score::attention<>{.window = 5} | score::group_mean{}, in)[0], oracle::window_mean(p, 0, 5));
}

TEST_CASE("SnapKV's reference vector: d = 1, keys 0 1 -1 2 .5 0, queries 1 .5") {
  problem p(1, 1, 6, 1, 1, 2);
  p.keys = {0, 1, -1, 2, .5F, 0};
  p.queries = {1, .5F};
  const auto raw = scores(score::observation_window(2) | score::group_mean{}, p.in())[0];
  const double expected[] = {0.098648899, 0.203392998, 0.050741372, 0.446104158};
  for (std::size_t j = 0; j < 4; ++j) CHECK(raw[j] == doctest::Approx(expected[j]).epsilon(1e-6));
  const protect recent{0, slots(2)};
  const auto avg = scores(score::observation_window(2) | score::group_mean{} | score::avg_pool{3}, p.in(), recent)[0];
  const double average[] = {0.100680632, 0.117594423, 0.233412843, 0.165615177};
  for (std::size_t j = 0; j < 4; ++j) CHECK(avg[j] == doctest::Approx(average[j]).epsilon(1e-6));
  const auto max = scores(score::observation_window(2) | score::group_mean{} | score::max_pool{3}, p.in(), recent)[0];
  const double most[] = {0.203392998, 0.203392998, 0.446104158, 0.446104158};
  for (std::size_t j = 0; j < 4; ++j) CHECK(max[j] == doctest::Approx(most[j]).epsilon(1e-6));
  CHECK(max[4] == raw[4]);  // recent slots keep their scores
}

namespace {
/// Scores that the test gives.
struct given_scores {
  static constexpr bool per_query_head = false;
  const float* data;
  template <class Inputs>
  void score_row(const Inputs&, const score::row_context& row, float* out) const {
    for (index_t j = 0; j < row.length; ++j) out[j] = data[j];
  }
};
std::vector<float> piped(const std::vector<float>& x, const auto& stage) {
  const problem p(1, 1, index_t(x.size()), 2, 2, 1);
  return scores(given_scores{x.data()} | stage, p.in())[0];
}
void check_table(const std::vector<float>& got, const std::vector<double>& expected) {
  REQUIRE(got.size() == expected.size());
  for (std::size_t j = 0; j < got.size(); ++j) CHECK(got[j] == doctest::Approx(expected[j]).epsilon(1e-6));
}
}  // namespace

TEST_CASE("pooling: the reference table") {
  const std::vector<float> x{1, 0, 0, 4, 0, 2};
  check_table(piped(x, score::avg_pool{3}), {1 / 3., 1 / 3., 4 / 3., 4 / 3., 2, 2 / 3.});
  check_table(piped(x, score::avg_pool{5}), {.2, 1, 1, 1.2, 1.2, 1.2});
  check_table(piped(x, score::max_pool{3}), {1, 1, 4, 4, 4, 2});
  check_table(piped(x, score::max_pool{5}), {1, 4, 4, 4, 4, 4});
  check_table(piped(x, score::max_pool{99}), {4, 4, 4, 4, 4, 4});
  check_table(piped(x, score::avg_pool{1}), {1, 0, 0, 4, 0, 2});
  check_table(piped(x, score::no_pool{}), {1, 0, 0, 4, 0, 2});
}

TEST_CASE("normalisations and powers") {
  check_table(piped({1, 0, 3, 4}, score::share_of_sum{}), {.125, 0, .375, .5});
  check_table(piped({1, 0, 3, 4}, score::share_of_max{}), {.25, 0, .75, 1});
  check_table(piped({0, 0}, score::share_of_sum{}), {0, 0});
  check_table(piped({0, 0}, score::share_of_max{}), {0, 0});
  check_table(piped({1, -3}, score::power{.offset = 1, .exponent = 2}), {4, 4});
  CHECK_FALSE(check(composed{score::key_norm{} | score::power{.exponent = 0}}).ok());
}

TEST_CASE("product and weighted sum") {
  const problem p(2, 1, 20, 4, 4, 4);
  const auto norm = scores(score::key_norm{}, p.in()), diff = scores(score::key_diff{}, p.in());
  const auto times = scores(score::product{score::key_norm{}, score::key_diff{}}, p.in());
  const auto sum = scores(score::weighted_sum{score::key_norm{}, score::key_diff{}, 2.0F, -3.0F}, p.in());
  for (std::size_t h = 0; h < 2; ++h)
    for (std::size_t j = 0; j < 20; ++j) {
      CHECK(times[h][j] == norm[h][j] * diff[h][j]);
      CHECK(sum[h][j] == doctest::Approx(2 * norm[h][j] - 3 * diff[h][j]));
    }
}

TEST_CASE("group reductions: mean, max, sum") {
  const problem p(1, 3, 20, 4, 4, 4);
  std::vector<oracle::vec> heads;
  for (index_t g = 0; g < 3; ++g) heads.push_back(oracle::columns(p, g, 4, oracle::one, oracle::one));
  oracle::vec sum(20, 0.0), max(20, 0.0);
  for (std::size_t j = 0; j < 20; ++j)
    for (const auto& h : heads) sum[j] += h[j], max[j] = std::max(max[j], h[j]);
  check_near(scores(score::attention<>{.window = 4} | score::group_sum{}, p.in())[0], sum);
  check_near(scores(score::attention<>{.window = 4} | score::group_max{}, p.in())[0], max);
  check_near(scores(score::attention<>{.window = 4} | score::group_mean{}, p.in())[0], oracle::group_mean(heads));
}

TEST_CASE("layer mean: all kv_heads get the mean of all query_heads") {
  const problem p(3, 2, 20, 4, 4, 1);
  const auto got = scores(score::observation_window(1) | score::group_mean{} | score::layer_mean{}, p.in());
  oracle::vec mean(20, 0.0);
  for (index_t q = 0; q < 6; ++q) {
    const auto w = oracle::softmax_row(p, q, 0, 20, 1);
    for (std::size_t j = 0; j < 20; ++j) mean[j] += w[j] / 6;
  }
  for (const auto& row : got) check_near(row, mean);
}

TEST_CASE("value prior: squared norms, pooled, over the row's maximum; from values or from kept norms") {
  const problem p(2, 1, 30, 4, 6, 4);
  const auto plain = scores(score::key_norm{}, p.in());
  const auto got = scores(score::key_norm{} | score::value_prior{5}, p.in());
  std::vector<float> norms;
  for (std::size_t h = 0; h < 2; ++h) {
    oracle::vec nu;
    for (std::size_t j = 0; j < 30; ++j) {
      double sum = 0;
      for (std::size_t d = 0; d < 6; ++d) sum += std::pow(double(p.values[(h * 30 + j) * 6 + d]), 2);
      nu.push_back(sum);
      norms.push_back(float(sum));
    }
    const auto gamma = oracle::average(nu, 5, 30);
    const double top = *std::max_element(gamma.begin(), gamma.end());
    oracle::vec expected;
    for (std::size_t j = 0; j < 30; ++j) expected.push_back(double(plain[h][j]) * gamma[j] / top);
    check_near(got[h], expected);
  }
  const inputs kept{p.cache(), p.query_rows(), value_norm_view{norms.data(), strided{.head = 30, .slot = 1}}};
  const auto from_norms = scores(score::key_norm{} | score::value_prior{5}, kept);
  for (std::size_t h = 0; h < 2; ++h) check_near(from_norms[h], oracle::vec(got[h].begin(), got[h].end()));
  problem zero = p;
  std::fill(zero.values.begin(), zero.values.end(), 0.0F);
  CHECK(scores(score::key_norm{} | score::value_prior{5}, zero.in()) == plain);
}

TEST_CASE("key norm and KeyDiff") {
  const problem p(2, 1, 30, 5, 4, 1);
  const auto norm = scores(score::key_norm{}, p.in()), diff = scores(score::key_diff{}, p.in());
  for (std::size_t h = 0; h < 2; ++h) {
    oracle::vec anchor(5, 0.0), lengths, expected_diff, expected_norm;
    const auto key = [&](std::size_t j, std::size_t d) { return double(p.keys[(h * 30 + j) * 5 + d]); };
    for (std::size_t j = 0; j < 30; ++j) {
      double sum = 0;
      for (std::size_t d = 0; d < 5; ++d) sum += key(j, d) * key(j, d);
      lengths.push_back(std::sqrt(sum));
      expected_norm.push_back(-lengths[j]);
      for (std::size_t d = 0; d < 5; ++d) anchor[d] += key(j, d) / lengths[j] / 30;
    }
    double length = 0;
    for (const double a : anchor) length += a * a;
    for (std::size_t j = 0; j < 30; ++j) {
      double dot = 0;
      for (std::size_t d = 0; d < 5; ++d) dot += key(j, d) * anchor[d];
      expected_diff.push_back(-dot / lengths[j] / std::sqrt(length));
    }
    check_near(norm[h], expected_norm);
    check_near(diff[h], expected_diff);
  }
}

TEST_CASE("positions: recency reads them, chance is a pure function of seed, row and position") {
  const problem p(2, 1, 6, 2, 2, 1);
  const std::vector<index_t> positions{0, 2, 3, 5, 7, 9, 0, 2, 3, 5, 7, 9};
  const inputs in{p.cache(), position_view{positions.data(), strided{.head = 6, .slot = 1}}};
  CHECK(scores(score::recency{}, in)[0] == std::vector<float>{0, 2, 3, 5, 7, 9});
  CHECK(scores(score::recency{}, p.in())[0] == std::vector<float>{0, 1, 2, 3, 4, 5});
  // A stream of 2^24 + 10 tokens: as floats, the last ones would be equal in pairs.
  constexpr index_t seen = (1 << 24) + 10;
  const std::vector<index_t> late{0, 5, 10, seen - 3, seen - 2, seen - 1, 0, 5, 10, seen - 3, seen - 2, seen - 1};
  const inputs stream{p.cache(), position_view{late.data(), strided{.head = 6, .slot = 1}}};
  CHECK(scores(score::recency{}, stream)[0] == std::vector<float>{-10, -5, 0, 16777213, 16777214, 16777215});
  const auto chance = scores(score::random{7}, in), again = scores(score::random{7}, in);
  CHECK(chance == again);
  CHECK(chance[0] != chance[1]);
  CHECK(chance[0][1] == score::uniform_number(7, score::row_stream(p.cache().shape(), p.cache().shape().row(0)), 2));
  CHECK(scores(score::random{8}, in)[0] != chance[0]);
  // A call for layer 3 draws what a call for four layers draws there.
  const auto in_layers = [&](const cache_shape& shape) {
    return scores(score::random{7}, inputs{key_cache{shape, 6, entries{p.keys.data(), strided{}, 2}}});
  };
  const auto whole = in_layers({4, 1, 2}), fourth = in_layers({1, 1, 2, 3, 4});
  CHECK(fourth[0] == whole[6]);
  CHECK(fourth[1] == whole[7]);
  CHECK(whole[0] != whole[6]);
  double mean = 0;
  for (std::uint64_t i = 0; i < 100000; ++i) {
    const float u = score::uniform_number(1, 2, i);
    REQUIRE((u > 0 && u <= 1));
    mean += double(u) / 1e5;
  }
  CHECK(mean == doctest::Approx(0.5).epsilon(0.01));
}

TEST_CASE("NACL's share: winners keep their scores, drawn slots are negative, frequencies follow exp(score / t)") {
  std::vector<float> x{5, 4, 1, 0, 2, 3};
  const auto got = piped(x, score::random_share{.share = 1, .temperature = 1, .seed = 3});
  for (const float s : got) CHECK(s <= 0);
  const problem p(1, 1, 6, 2, 2, 1);
  const composed half{given_scores{x.data()} | score::random_share{.share = .5, .temperature = 1, .seed = 1},
                      budget_of(4)};
  const auto mixed = host::score(half, p.in())[0];
  CHECK(mixed[0] == 5);
  CHECK(mixed[1] == 4);
  for (std::size_t j = 2; j < 6; ++j) CHECK(mixed[j] <= 0);
  // One slot of two, scores ln 3 and 0: the first is drawn three times out of four.
  const std::vector<float> two{std::log(3.0F), 0};
  const problem small(1, 1, 2, 2, 2, 1);
  int first = 0;
  for (std::uint64_t seed = 0; seed < 4000; ++seed) {
    const composed draw{given_scores{two.data()} | score::random_share{.share = 1, .temperature = 1, .seed = seed},
                        budget_of(1)};
    first += host::evict(draw, small.in()).slots[0] == 0;
  }
  CHECK(first == doctest::Approx(3000).epsilon(0.04));
}
