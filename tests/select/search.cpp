// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <kvevict/cpu/detail/listed_keys.hpp>
#include <numeric>
#include <random>
#include <vector>

using namespace kvevict;
using namespace kvevict::detail;

namespace {

/// Scores of all kinds: the ends of every range of bits, and any bits.
std::vector<float> any_scores(std::size_t count, std::mt19937& g) {
  std::vector<float> scores;
  for (const std::uint32_t bits :
       {0u, 1u, 0x7fffffu, 0x800000u, 0x3f800000u, 0x7f7fffffu, 0x7f800000u, 0x7f800001u, 0x7fc00000u, 0x7fffffffu})
    for (const std::uint32_t sign : {0u, 0x80000000u}) scores.push_back(std::bit_cast<float>(bits | sign));
  while (scores.size() < count) scores.push_back(std::bit_cast<float>(std::uint32_t(g())));
  return scores;
}

/// How many keys of the scores are at least t.
index_t reached(const std::vector<float>& scores, std::int32_t t) {
  return index_t(std::count_if(scores.begin(), scores.end(), [&](float s) { return order_key(s) >= t; }));
}

}  // namespace

TEST_CASE("search: registers of scores compare with a key as their own keys do") {
  std::mt19937 g(1);
  const std::vector<float> scores = any_scores(64 * scan_block, g);
  for (const float of_key : scores) {
    const std::int32_t t = order_key(of_key);
    for (std::size_t first = 0; first < scores.size(); first += scan_block) {
      const float* const block = scores.data() + first;
      std::uint32_t expected = 0;
      for (index_t j = 0; j < scan_block; ++j) expected |= std::uint32_t{order_key(block[j]) >= t} << j;
      CHECK(at_least(any_score{}, block, t) == expected);
      if (t > 0) CHECK(at_least(positive_score{}, block, t) == expected);
    }
  }
}

TEST_CASE("search: what lies between two keys is counted, and listed where there is room") {
  std::mt19937 g(2);
  constexpr index_t room = 4 * scan_block, beyond = scan_block;
  int complete = 0, cut = 0;
  for (int round = 0; round < 3000; ++round) {
    std::vector<float> scores = round % 2 == 0 ? any_scores(std::size_t(20 + g() % 300), g) : std::vector<float>();
    while (round % 2 != 0 && scores.size() < 300)
      scores.push_back(float(g() % 1000) - (round % 4 == 1 ? 0.0F : 500.0F));
    const std::int32_t a = order_key(scores[g() % scores.size()]), b = order_key(scores[g() % scores.size()]);
    const key_pair t{std::max(std::min(a, b), lowest_key + 1), std::max(std::max(a, b), lowest_key + 1)};
    std::vector<std::int32_t> memory(room + beyond, 77);
    listed_keys list{memory.data(), room};
    list.between(t, {scores.data(), index_t(scores.size())});
    CAPTURE(round);
    CHECK(list.above == reached(scores, t.upper));
    CHECK(list.above + list.count == reached(scores, t.lower));
    CHECK(std::count(memory.begin() + room, memory.end(), 77) == beyond);
    if (list.complete()) {
      ++complete;
      for (const std::int32_t key : {t.lower, std::midpoint(t.lower, t.upper), t.upper})
        CHECK(list.above + list.at_least(key) == reached(scores, key));
    } else {
      ++cut;
    }
    listed_keys counted{memory.data(), room};
    counted.only_count(t, {scores.data(), index_t(scores.size())});
    CHECK(counted.count == list.count);
    CHECK(counted.above == list.above);
  }
  CHECK(complete > 500);
  CHECK(cut > 500);
}

TEST_CASE("search: a sample holds every so many blocks, the last one too") {
  std::mt19937 g(3);
  const std::vector<float> scores = any_scores(5 * scan_block + 7, g);
  std::vector<std::int32_t> memory(6 * scan_block);
  listed_keys list{memory.data(), 6 * scan_block};
  for (const index_t step : {1, 2, 5}) {
    list.sample({scores.data(), index_t(scores.size())}, step);
    std::vector<float> drawn;
    for (std::size_t j = 0; j < scores.size(); ++j)
      if (index_t(j) / scan_block % step == 0) drawn.push_back(scores[j]);
    CAPTURE(step);
    CHECK(list.count == index_t(drawn.size()));
    for (const float s : scores)
      if (order_key(s) > lowest_key) CHECK(list.at_least(order_key(s)) == reached(drawn, order_key(s)));
    std::int32_t low = highest_key, high = lowest_key;
    list.embrace(low, high);
    CHECK(low == lowest_key);  // NaN
    CHECK(high == infinite_key);
  }
}
