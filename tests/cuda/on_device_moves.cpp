// SPDX-License-Identifier: MIT
#include "on_device_moves.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <kvevict/cpu.hpp>
#include <numeric>
#include <random>
#include <string_view>

using namespace kvevict;
using on_device::paged_rows;

namespace {

template <class Element>
paged_rows<Element> random_rows(std::mt19937& chance) {
  paged_rows<Element> r{
      .shape = {.layers = 2, .seqs = 2, .kv_heads = 4}, .max_blocks = 20, .block_size = 16, .dims = 96};
  const auto rows = static_cast<std::size_t>(r.shape.rows());
  r.table.resize(rows * 20);
  std::iota(r.table.begin(), r.table.end(), 0);
  std::shuffle(r.table.begin(), r.table.end(), chance);
  std::normal_distribution<float> normal;
  for (std::size_t i = 0; i < r.table.size() * 16 * 96; ++i) {
    r.keys.push_back(from_float<Element>(normal(chance)));
    r.values.push_back(from_float<Element>(normal(chance)));
  }
  r.offsets = {0};
  for (std::size_t row = 0; row < rows; ++row) {
    r.lengths.push_back(1 + static_cast<index_t>(chance() % 320));
    r.held.push_back(20);
    const auto of_ten = chance() % 11;
    for (index_t s = 0; s < r.lengths.back(); ++s)
      if (s == 0 || chance() % 10 < of_ten) r.slots.push_back(s);
    r.offsets.push_back(static_cast<offset_t>(r.slots.size()));
  }
  for (int i = 0; i < 32; ++i) r.frequencies.push_back(std::pow(500000.0, -i / 32.0));
  r.pairs = chance() % 2 == 0 ? rope_pairs::half_split : rope_pairs::interleaved;
  return r;
}

template <class Element>
auto view_of(paged_rows<Element>& r) {
  const paged layout = paged_per_row(r.table.data(), r.max_blocks, r.block_size, r.dims);
  return cache{r.shape, r.lengths.data(), entries{r.keys.data(), layout, r.dims},
               entries{r.values.data(), layout, r.dims}};
}

/// Keys that turned may differ in the last bits; all other bytes may not.
template <class Element>
void check_rows(paged_rows<Element>& got, paged_rows<Element>& expected) {
  const double bound = 1e-6 + (sizeof(Element) == 4 ? 0 : 0x1p-8);
  for (index_t r = 0; r < got.shape.rows(); ++r)
    for (index_t s = 0; s < expected.lengths[static_cast<std::size_t>(r)]; ++s) {
      const row_id row = got.shape.row(r);
      double error = 0, size = 0;
      for (index_t d = 0; d < got.dims; ++d) {
        const double a = view_of(got).keys()(row, s, d), b = view_of(expected).keys()(row, s, d);
        if (d >= 64) REQUIRE(a == b);
        error += (a - b) * (a - b);
        size += b * b;
        REQUIRE(view_of(got).values()(row, s, d) == view_of(expected).values()(row, s, d));
      }
      REQUIRE(std::sqrt(error / size) <= bound);
    }
}

template <class Element>
void check_moves() {
  for (unsigned seed = 0; seed < 4; ++seed) {
    CAPTURE(seed);
    std::mt19937 chance(seed);
    paged_rows<Element> got = random_rows<Element>(chance), expected = got;
    REQUIRE(on_device::compact_and_free(got));
    const rope embedding{expected.frequencies.data(), 64, expected.pairs};
    const selection kept{expected.slots, expected.offsets};
    REQUIRE(compact_in_place(cpu{}, view_of(expected), kept, turned_keys{embedding}).ok());
    retained_lengths(kept, expected.lengths.data());
    expected.freed.resize(expected.table.size());
    offset_t count = 0;
    const paged layout = paged_per_row(expected.table.data(), 20, 16, 96);
    REQUIRE(
        free_blocks(layout, expected.shape, expected.lengths.data(), 0, {expected.held.data()}, expected.freed, count)
            .ok());
    expected.freed.resize(static_cast<std::size_t>(count));
    REQUIRE(got.lengths == expected.lengths);
    REQUIRE(got.held == expected.held);
    REQUIRE(got.freed == expected.freed);
    check_rows(got, expected);

    std::vector<index_t> from, to;
    for (std::size_t i = 0; i < expected.lengths.size() * 320; ++i) {
      from.push_back(static_cast<index_t>(chance() % 2000000000));
      to.push_back(i % 3 == 0 ? from.back() : static_cast<index_t>(i % 320));
    }
    expected.keys = got.keys;
    REQUIRE(on_device::rotate(got, from, to));
    const strided order = hnd(2, 4, 320, 1);
    REQUIRE(rotate_keys(cpu{}, view_of(expected), embedding, position_view{from.data(), order},
                        position_view{to.data(), order})
                .ok());
    check_rows(got, expected);
  }
}

}  // namespace

TEST_CASE("on the device: keys turn while they move and where they lie, and blocks are freed as on the CPU") {
  check_moves<float>();
  check_moves<bfloat16>();
}

TEST_CASE("refused: moves that the host knows to be wrong, before anything reaches the device") {
  index_t number = 1;
  offset_t count = 0;
  double frequency = 1;
  float key = 0;
  const auto refused = [](const status& s, status_code code, std::string_view argument) {
    CHECK(s.code == code);
    CHECK(s.argument == argument);
  };
  const paged layout = paged_per_row(&number, 2, 4, 8);
  const span<index_t> room{&number, 1};
  using on_device::free_blocks_of;
  refused(free_blocks_of(layout, {.layers = 0}, 0, &number, room, &count), status_code::bad_shape, "layers");
  refused(free_blocks_of(paged_per_row(nullptr, 2, 4, 8), {}, 0, &number, room, &count), status_code::bad_pointer,
          "layout");
  refused(free_blocks_of(layout, {}, -1, &number, room, &count), status_code::bad_option, "slack");
  refused(free_blocks_of(layout, {}, 0, nullptr, room, &count), status_code::bad_pointer, "counts");
  refused(free_blocks_of(layout, {}, 0, &number, {nullptr, 1}, &count), status_code::bad_pointer, "freed");
  refused(free_blocks_of(layout, {}, 0, &number, room, nullptr), status_code::bad_pointer, "freed_count");
  using on_device::rotate_one_row;
  refused(rotate_one_row(nullptr, {&frequency, 2}, &number, &number), status_code::bad_pointer, "keys");
  refused(rotate_one_row(&key, {nullptr, 2}, &number, &number), status_code::bad_pointer, "frequencies");
  refused(rotate_one_row(&key, {&frequency, 3}, &number, &number), status_code::bad_shape, "rotary_dims");
  refused(rotate_one_row(&key, {&frequency, 10}, &number, &number), status_code::bad_shape, "rotary_dims");
  refused(rotate_one_row(&key, {&frequency, 2}, nullptr, &number), status_code::bad_pointer, "from");
  refused(rotate_one_row(&key, {&frequency, 2}, &number, nullptr), status_code::bad_pointer, "to");
}
