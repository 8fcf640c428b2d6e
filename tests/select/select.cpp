// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include <limits>

#include "../support/oracle.hpp"

using namespace kvevict;

namespace {

std::vector<index_t> pick(const std::vector<float>& scores, index_t budget, index_t sinks = 0, index_t recent = 0,
                          row_receipt* receipt = nullptr) {
  const host::composed policy{score::recency{}, budget::uniform{slots(budget)}, protect{sinks, slots(recent)}};
  const std::vector<offset_t> offsets{0, offset_t(scores.size())};
  const row_scores in{cache_shape{}, {scores.data(), offsets.data(), 1}, {}, 10};
  std::vector<index_t> out(std::size_t(std::min<index_t>(budget, index_t(scores.size()))), -1);
  std::vector<offset_t> kept(2);
  std::vector<row_receipt> receipts(1);
  host::scratch memory(workspace_bytes(cpu{}, policy, in));
  const status s = select(cpu{}, policy, in, selection{out, kept, receipts}, memory.get());
  REQUIRE_MESSAGE(s.ok(), s.sentence);
  REQUIRE(kept[1] == offset_t(out.size()));
  if (receipt != nullptr) *receipt = receipts[0];
  return out;
}
using ids = std::vector<index_t>;

}  // namespace

TEST_CASE("selection: the contract in small tables") {
  constexpr float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  CHECK(pick({3, 1, 2, 5}, 2) == ids{0, 3});
  CHECK(pick({1, 1, 1, 1}, 2) == ids{0, 1});                   // ties: the smaller slot
  CHECK(pick({0.0F, -0.0F, -0.0F, 0.0F}, 3) == ids{0, 1, 2});  // -0 equals +0
  CHECK(pick({nan, -inf, nan, 1}, 2) == ids{1, 3});            // NaN below every number
  CHECK(pick({nan, -nan, nan}, 2) == ids{0, 1});               // all NaN are alike
  CHECK(pick({inf, 1, inf}, 2) == ids{0, 2});
  CHECK(pick({1, 2, 3}, 3) == ids{0, 1, 2});  // short rows whole
  CHECK(pick({1, 2, 3}, 9) == ids{0, 1, 2});
  CHECK(pick({0, 9, 8, 7, 0}, 3, 1, 1) == ids{0, 1, 4});  // protected inside the budget, outside the candidates
  CHECK(pick({9, 1, 1, 1, 9}, 2, 1, 1) == ids{0, 4});
  CHECK(pick({1e-45F, 0, -1e-45F}, 1) == ids{0});  // subnormals count
}

TEST_CASE("protection: sinks first, a short row protects no more slots than it has") {
  struct {
    protect p;
    index_t length, budget, sinks, recent;
  } const table[] = {
      {{2, slots(3)}, 10, 6, 2, 3},     {{2, slots(3)}, 5, 5, 2, 3},     {{2, slots(3)}, 4, 4, 2, 2},
      {{2, slots(3)}, 2, 2, 2, 0},      {{2, slots(3)}, 1, 1, 1, 0},     {{0, percent(50)}, 10, 7, 0, 3},
      {{1, percent(100)}, 10, 4, 1, 4}, {{1, percent(100)}, 4, 9, 1, 3}, {{}, 3, 1, 0, 0},
  };
  for (const auto& t : table) {
    CAPTURE(t.length);
    const protected_slots got = t.p.of(t.length, t.budget);
    CHECK(got.sinks == t.sinks);
    CHECK(got.recent == t.recent);
  }
}

TEST_CASE("selection: random rows against a full sort") {
  std::mt19937 g(11);
  for (int round = 0; round < 1500; ++round) {
    const index_t n = 1 + index_t(g() % 200);
    std::vector<float> s(static_cast<std::size_t>(n));
    const int kind = round % 4;
    for (float& x : s)
      x = kind == 0   ? float(g() % 5)
          : kind == 1 ? std::bit_cast<float>(std::uint32_t(g()))  // any bits: NaN, Inf, subnormals
          : kind == 2 ? 1.0F + float(g() % 7) * 1.2e-7F
                      : std::ldexp(float(g() % 1000), int(g() % 60) - 30);
    const index_t sinks = index_t(g() % 4), recent = index_t(g() % 5);
    const index_t budget = std::max<index_t>(1, std::min(n, sinks + recent) + index_t(g() % 60));
    CAPTURE(round);
    CHECK(pick(s, budget, sinks, recent) == oracle::select(s, budget, std::min(sinks, n), recent));
  }
}

namespace {

/// Long rows, of kinds that a sample judges well, badly, or not at all.
std::vector<float> long_row(int kind, index_t n, std::mt19937& g) {
  std::normal_distribution<float> normal;
  std::vector<float> s(static_cast<std::size_t>(n));
  for (index_t j = 0; j < n; ++j) {
    float& x = s[std::size_t(j)];
    const auto chance = float(g() % 1000);
    switch (kind) {
      case 0:
        x = std::exp(3 * normal(g) - 12);
        break;  // as attention gives them
      case 1:
        x = float(j);
        break;  // ascending
      case 2:
        x = -float(j);
        break;  // descending
      case 3:
        x = 1;
        break;  // all equal
      case 4:
        x = chance < 990 ? 0.0F : chance;
        break;  // most equal
      case 5:
        x = std::bit_cast<float>(std::uint32_t(g()));
        break;  // any bits
      case 6:
        x = j % 16 == 0 ? 5 + normal(g) : normal(g);
        break;  // in step with a sample
      case 7:
        x = j % 32 < 16 ? std::numeric_limits<float>::quiet_NaN() : chance;
        break;
      case 8:
        x = j < n / 50 ? 100 + normal(g) : normal(g);
        break;  // the best at one end
      case 9:
        x = j % 2 == 0 ? normal(g) : 5 + normal(g);
        break;  // in step, and low where a sample looks
      case 10:
        x = std::bit_cast<float>(std::bit_cast<std::uint32_t>(std::exp(3 * normal(g) - 12)) & 0xFFFF0000U);
        break;  // attention in bf16: many are equal
      case 11:
        x = j % 3 == 0 ? 1 + normal(g) * 1e-3F : normal(g);
        break;  // many in a narrow range
      default:
        x = 1 + float(g() % 3) * 1.2e-7F;
        break;  // neighbours in the last bit
    }
  }
  return s;
}

}  // namespace

TEST_CASE("selection: long rows, whatever their distribution, against a full sort") {
  std::mt19937 g(12);
  for (int round = 0; round < 442; ++round) {
    const index_t n = 400 + index_t(g() % (round % 8 == 0 ? 60000 : 9000)), sinks = index_t(g() % 5),
                  recent = index_t(g() % 40);
    const std::vector<float> s = long_row(round % 13, n, g);
    const index_t most = n - sinks - recent;
    const index_t budget = sinks + recent + (round % 3 == 0 ? index_t(g() % 20) : index_t(g() % unsigned(most)));
    CAPTURE(round);
    CHECK(pick(s, std::max(1, budget), sinks, recent) == oracle::select(s, std::max(1, budget), sinks, recent));
  }
}

TEST_CASE("selection: more equal scores where a long row is cut than a search lists") {
  std::mt19937 g(13);
  std::normal_distribution<float> normal;
  std::vector<float> s(300000);
  for (std::size_t j = 0; j < s.size(); ++j) s[j] = j % 50 == 0 ? 3.0F : normal(g);
  for (const index_t budget : {500, 2000, 4000, 6000}) CHECK(pick(s, budget) == oracle::select(s, budget, 0, 0));
}

TEST_CASE("receipts: kept, evicted, bytes, threshold and score share") {
  row_receipt r;
  pick({4, 1, 3, 2}, 2, 0, 0, &r);
  CHECK(r.retained == 2);
  CHECK(r.evicted == 2);
  CHECK(r.bytes_freed == 20);
  CHECK(r.threshold == 3);
  CHECK(r.score_share == doctest::Approx(0.7));
  pick({4, 1}, 2, 0, 0, &r);
  CHECK(r.evicted == 0);
  CHECK(std::isnan(r.threshold));
  CHECK(r.score_share == 1);
  pick({4, -1, 3}, 2, 0, 0, &r);
  CHECK(std::isnan(r.score_share));
  pick({4, 1, 3, 9}, 2, 1, 1, &r);  // nothing but protected slots
  CHECK(std::isnan(r.threshold));

  // An eviction knows what a slot takes: 3 dims of a key, 5 of a value.
  const host::problem p(2, 1, 10, 3, 5, 1);
  const host::kept kept = host::evict(host::composed{score::recency{}, budget::uniform{slots(4)}}, p.in());
  REQUIRE(kept.status.ok());
  for (const row_receipt& row : kept.receipts) CHECK(row.bytes_freed == 6 * (3 + 5) * offset_t{sizeof(float)});
}
