// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include "on_device.hpp"
#include "on_device_expected.hpp"

using namespace kvevict;
using namespace on_device;

namespace {

/// Rows of different length whose scores are all different, or few values, what is no number among them, or
/// heavy-tailed.
scored_rows random_rows(const cache_shape& shape, index_t longest, std::uint32_t seed) {
  scored_rows rows{shape, {0}, {}};
  std::mt19937 chance(seed);
  for (index_t r = 0; r < shape.rows(); ++r) {
    const auto length = static_cast<index_t>(100 + chance() % static_cast<std::uint32_t>(longest));
    rows.offsets.push_back(rows.offsets.back() + length);
    for (index_t j = 0; j < length; ++j) {
      const float u = static_cast<float>(chance() % 1000000) / 1e6F;
      rows.scores.push_back(seed % 3 == 0 ? u : seed % 3 == 1 ? std::floor(u * 7) - 3 : std::exp(-30 * u));
      if (seed % 3 == 1 && chance() % 9 == 0) rows.scores.back() = chance() % 2 != 0 ? -0.0F : std::nanf("");
    }
  }
  if (seed % 4 == 3) {
    rows.pools = 3;
    for (index_t r = 0; r < shape.rows(); ++r) rows.pool_of_row.push_back(static_cast<index_t>(chance() % 3));
  }
  return rows;
}

row_scores view(const scored_rows& in) {
  return {in.shape,
          {in.scores.data(), in.offsets.data(), static_cast<index_t>(in.shape.rows())},
          {in.pools > 0 ? in.pool_of_row.data() : nullptr, in.pools},
          in.entry_bytes};
}

template <class Policy>
void check_same(const Policy& policy, const scored_rows& in, std::size_t share_of_room) {
  const host::kept expected = selected_on_host(policy, view(in));
  REQUIRE(expected.status.ok());
  const std::size_t all = static_cast<std::size_t>(expected.offsets.back());
  const std::size_t room = std::min(in.scores.size(), all * share_of_room / 100);
  const selected got = on_device::select(policy, in, static_cast<offset_t>(room), runs());
  REQUIRE(got.wrong == "");
  REQUIRE(got.offsets == expected.offsets);
  std::vector<index_t> slots(got.slots.size(), -1);
  std::size_t rows = 0;  // that have room
  for (; rows < got.receipts.size() && std::size_t(expected.offsets[rows + 1]) <= room; ++rows)
    std::copy(expected.slots.begin() + expected.offsets[rows], expected.slots.begin() + expected.offsets[rows + 1],
              slots.begin() + expected.offsets[rows]);
  REQUIRE((rows < got.receipts.size()) == (share_of_room < 100));
  REQUIRE(got.slots == slots);
  const auto with_room = [&](const std::vector<row_receipt>& of_all) {
    return std::vector<row_receipt>(of_all.begin(), of_all.begin() + std::ptrdiff_t(rows));
  };
  check_receipts(with_room(got.receipts), with_room(expected.receipts));
}

}  // namespace

TEST_CASE("on the device: a selection is the CPU's, and a row without room is not written") {
  for (std::uint32_t seed = 0; seed < (light() ? 4u : 12u); ++seed) {
    const cache_shape shape{.layers = 1 + static_cast<index_t>(seed % 3), .seqs = 2, .kv_heads = 8};
    const scored_rows in = random_rows(shape, seed % 2 != 0 && !light() ? 40000 : 3000, seed);
    CAPTURE(seed);
    const std::size_t room = seed % 5 == 4 ? 70 : 100;
    check_same(snapkv<>{.budget = percent(30), .recent = 0}, in, room);
    check_same(pyramidkv<>{.budget = percent(30), .recent = 4}, in, room);
    check_same(adakv{snapkv<>{.budget = percent(30), .sinks = 2, .recent = 3}}, in, room);
    check_same(adakv{snapkv<>{.budget = percent(40), .recent = 0}, 0.5, budget::safeguard::minimum}, in, room);
  }
}
