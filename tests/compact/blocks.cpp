// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include <algorithm>
#include <set>
#include <string>

#include "../support/storage.hpp"

using namespace kvevict;

TEST_CASE("freed blocks: a table per row, per layer and per sequence") {
  // Two layers, one sequence, two heads; blocks of 4 slots, three per table row.
  const cache_shape shape{2, 1, 2};
  const std::vector<index_t> lengths{9, 3, 4, 5};
  std::vector<index_t> freed(16, -7);
  offset_t count = -1;

  std::vector<index_t> table{10, 11, 12, 20, 21, 22, 30, 31, 32, 40, 41, 42}, held{3, 3, 3, 2};
  REQUIRE(
      free_blocks(paged_per_row(table.data(), 3, 4, 8), shape, lengths.data(), 0, {held.data()}, freed, count).ok());
  CHECK(held == std::vector<index_t>{3, 1, 1, 2});
  CHECK(std::vector<index_t>(freed.begin(), freed.begin() + count) == std::vector<index_t>{21, 22, 31, 32});

  held = {3, 3};
  REQUIRE(
      free_blocks(paged_per_layer(table.data(), 3, 4, 2, 8, 1), shape, lengths.data(), 0, {held.data()}, freed, count)
          .ok());
  CHECK(held == std::vector<index_t>{3, 2});  // layer 0 needs 9 slots, layer 1 needs 5
  CHECK(std::vector<index_t>(freed.begin(), freed.begin() + count) == std::vector<index_t>{22});

  held = {3};
  const index_t short_lengths[] = {4, 3, 4, 1};
  REQUIRE(
      free_blocks(paged_hnd(table.data(), 3, 4, 2, 8, 64), shape, short_lengths, 0, {held.data()}, freed, count).ok());
  CHECK(held == std::vector<index_t>{1});
  CHECK(std::vector<index_t>(freed.begin(), freed.begin() + count) == std::vector<index_t>{11, 12});

  // Room for the next slots stays; a row without spare blocks keeps what it has; nothing to free is no error.
  held = {3, 3, 1, 2};
  REQUIRE(
      free_blocks(paged_per_row(table.data(), 3, 4, 8), shape, lengths.data(), 3, {held.data()}, freed, count).ok());
  CHECK(held == std::vector<index_t>{3, 2, 1, 2});
  CHECK(count == 1);
  REQUIRE(free_blocks(paged_per_row(table.data(), 3, 4, 8), shape, lengths.data(), 3, {held.data()}, {}, count).ok());
  CHECK(count == 0);
}

TEST_CASE("freed blocks: each exactly once, the kept ones still hold the bytes") {
  const host::content<float> c(cache_shape{2, 2, 2}, {61, 19}, 8, 4, 2);
  auto store = host::in_pages(c, host::page_order::per_row);
  const auto view = store.cache();
  const host::kept kept =
      host::evict(adakv{snapkv<>{.budget = slots(20), .window = 8}}, inputs{view, c.query_rows_view()});
  host::kept chosen = kept;
  REQUIRE(compact_in_place(cpu{}, view, chosen.view()).ok());
  std::vector<index_t> after(c.lengths.size()), held(c.lengths.size(), store.key_layout.max_blocks);
  retained_lengths(chosen.view(), after.data());
  std::vector<index_t> freed(store.table.size());
  offset_t count = 0;
  REQUIRE(free_blocks(store.key_layout, c.shape, after.data(), 0, {held.data()}, freed, count).ok());
  std::multiset<index_t> ids(freed.begin(), freed.begin() + count);
  for (std::size_t t = 0; t < held.size(); ++t) {
    CHECK(held[t] == (after[t] + 4) / 5);
    for (index_t b = 0; b < held[t]; ++b)
      ids.insert(store.table[t * std::size_t(store.key_layout.max_blocks) + std::size_t(b)]);
  }
  CHECK(ids == std::multiset<index_t>(store.table.begin(), store.table.end()));
  // The pool may now overwrite what was freed.
  for (offset_t i = 0; i < count; ++i)
    std::fill_n(store.keys.begin() + offset_t{freed[std::size_t(i)]} * store.key_layout.block, store.key_layout.block,
                -1.F);
  for (index_t r = 0; r < c.shape.rows(); ++r)
    for (index_t k = 0; k < after[std::size_t(r)]; ++k)
      for (index_t d = 0; d < c.dim; ++d)
        REQUIRE(view.keys()(c.shape.row(r), k, d) ==
                c.keys[std::size_t(r)][std::size_t(chosen.view()[r][k] * c.dim + d)]);
}

TEST_CASE("freed blocks: bad input changes nothing") {
  const cache_shape shape{1, 1, 2};
  std::vector<index_t> table{1, 2, 3, 4}, held{2, 2}, freed(1, -7);
  const index_t lengths[] = {1, 1};
  offset_t count = -7;
  const auto expect = [&](const status& s, status_code code, const char* argument) {
    CHECK(s.code == code);
    CHECK(std::string(s.argument) == argument);
    CHECK(held == std::vector<index_t>{2, 2});
    CHECK(count == -7);
    CHECK(freed[0] == -7);
  };
  const paged layout = paged_per_row(table.data(), 2, 4, 8);
  const status tight = free_blocks(layout, shape, lengths, 0, {held.data()}, freed, count);
  expect(tight, status_code::small_output, "freed");
  CHECK(tight.needed == 2);
  expect(free_blocks(layout, shape, lengths, -1, {held.data()}, freed, count), status_code::bad_option, "slack");
  expect(free_blocks(layout, shape, lengths, 0, {}, freed, count), status_code::bad_pointer, "counts");
  expect(free_blocks(paged_per_row(nullptr, 2, 4, 8), shape, lengths, 0, {held.data()}, freed, count),
         status_code::bad_pointer, "layout");
  expect(free_blocks(paged_per_layer(table.data(), 2, 4, 2, 8, 3), shape, lengths, 0, {held.data()}, freed, count),
         status_code::bad_shape, "layout");
  const index_t too_long[] = {9, 1}, negative[] = {1, -1};
  expect(free_blocks(layout, shape, too_long, 0, {held.data()}, freed, count), status_code::bad_shape, "counts");
  expect(free_blocks(layout, shape, negative, 0, {held.data()}, freed, count), status_code::bad_shape, "counts");
  const index_t* const none = nullptr;
  expect(free_blocks(layout, shape, none, 0, {held.data()}, freed, count), status_code::bad_shape, "lengths");
  expect(free_blocks(layout, shape, index_t{-1}, 0, {held.data()}, freed, count), status_code::bad_shape, "lengths");
}
