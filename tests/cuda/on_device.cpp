// SPDX-License-Identifier: MIT
#define DOCTEST_CONFIG_IMPLEMENT
#include "on_device.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <kvevict/cpu.hpp>
#include <random>

using namespace kvevict;
using on_device::kept_slots;
using on_device::scored_rows;

namespace {

scored_rows random_rows(const cache_shape& shape, index_t longest, std::uint32_t seed) {
  scored_rows rows{shape, {0}, {}};
  std::mt19937 chance(seed);
  for (index_t r = 0; r < shape.rows(); ++r) {
    const auto length = static_cast<index_t>(100 + chance() % static_cast<std::uint32_t>(longest));
    rows.offsets.push_back(rows.offsets.back() + length);
    for (index_t j = 0; j < length; ++j) {
      const float u = static_cast<float>(chance() % 1000000) / 1e6F;
      rows.scores.push_back(seed % 3 == 0 ? u : seed % 3 == 1 ? std::floor(u * 7) - 3 : std::exp(-30 * u));
    }
  }
  return rows;
}

template <class Policy>
kept_slots on_host(const Policy& policy, const scored_rows& in) {
  kept_slots out{std::vector<offset_t>(in.offsets.size()), std::vector<index_t>(in.scores.size())};
  const auto rows = static_cast<index_t>(in.shape.rows());
  const row_scores scores{in.shape, {in.scores.data(), in.offsets.data(), rows}};
  std::vector<cache_line> scratch(cache_lines(workspace_bytes(cpu{}, policy, scores)));
  REQUIRE(select(cpu{}, policy, scores, selection{out.slots, out.offsets}, workspace_of(scratch)).ok());
  out.slots.resize(static_cast<std::size_t>(out.offsets.back()));
  return out;
}

/// Fewer where a tool makes each of them slow.
int runs() {
  const char* const said = std::getenv("KVEVICT_RUNS");
  return said == nullptr ? 100 : std::max(1, std::atoi(said));
}

template <class Policy>
void check_same(const Policy& policy, const scored_rows& in) {
  const kept_slots expected = on_host(policy, in);
  for (const bool captured : {false, true}) {
    const kept_slots got = on_device::select(policy, in, captured ? runs() : 1, captured);
    REQUIRE(got.offsets == expected.offsets);
    REQUIRE(got.slots == expected.slots);
  }
}

}  // namespace

TEST_CASE("on the device: a selection is the CPU's, also captured, also after 100 runs") {
  for (std::uint32_t seed = 0; seed < 12; ++seed) {
    const cache_shape shape{.layers = 1 + static_cast<index_t>(seed % 3), .seqs = 2, .kv_heads = 8};
    const scored_rows in = random_rows(shape, seed % 2 ? 40000 : 3000, seed);
    CAPTURE(seed);
    check_same(snapkv<>{.budget = percent(30), .recent = 0}, in);
    check_same(pyramidkv<>{.budget = percent(30), .recent = 0}, in);
    check_same(adakv{snapkv<>{.budget = percent(30), .recent = 0}}, in);
    auto least_share = adakv{snapkv<>{.budget = percent(40), .recent = 0}, 0.5, budget::safeguard::minimum};
    check_same(least_share, in);
  }
}

/// Runs nothing where there is no device, and says what.
int main(int argc, char** argv) {
  if (!on_device::found()) {
    std::puts("skipped: no CUDA device; not run: a selection is the CPU's, also captured, also after 100 runs");
    return 77;
  }
  return doctest::Context(argc, argv).run();
}
