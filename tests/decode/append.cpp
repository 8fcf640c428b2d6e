// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include <string>

#include "../support/storage.hpp"

using namespace kvevict;

TEST_CASE("append: behind the last slot of every row, nothing else changes; from any layout to any") {
  // Two heads with room for 4 and 2 slots, of 2-dim keys and 1-dim values.
  const std::vector<offset_t> offsets{0, 4, 6};
  std::vector<float> keys(12, -1.F), values(6, -1.F);
  std::vector<index_t> lengths{1, 0};
  const cache to{cache_shape{1, 1, 2}, lengths.data(), entries{keys.data(), flat{offsets.data(), 2}, 2},
                 entries{values.data(), flat{offsets.data(), 1}, 1}};
  std::vector<float> k{1, 2, 3, 4, 5, 6, 7, 8}, v{10, 20, 30, 40};  // [slot][head][dim]
  index_t added[] = {2, 1};
  const cache from{cache_shape{1, 1, 2}, added, entries{k.data(), nhd(1, 2, 2, 2), 2},
                   entries{v.data(), nhd(1, 2, 2, 1), 1}};
  REQUIRE(append(cpu{}, from, to, lengths).ok());
  CHECK(lengths == std::vector<index_t>{3, 1});
  CHECK(keys == std::vector<float>{-1, -1, 1, 2, 5, 6, -1, -1, 3, 4, -1, -1});
  CHECK(values == std::vector<float>{-1, 10, 30, -1, 20, -1});

  // Head 0 has one slot left: two more do not fit, and the status says what the row would need.
  const auto before = keys;
  const status full_row = append(cpu{}, from, to, lengths);
  CHECK(full_row.code == status_code::small_output);
  CHECK(std::string(full_row.argument) == "to");
  CHECK(full_row.needed == 5 * (2 + 1) * offset_t{sizeof(float)});
  CHECK(keys == before);
  CHECK(lengths == std::vector<index_t>{3, 1});
  added[0] = 1;
  REQUIRE(append(cpu{}, from, to, lengths).ok());  // within capacity again
  CHECK(lengths == std::vector<index_t>{4, 2});
  added[0] = added[1] = 0;
  REQUIRE(append(cpu{}, from, to, lengths).ok());  // nothing is legal
}

TEST_CASE("append: a row grows, is evicted, and grows again in the room that it left; then moves to a larger one") {
  const host::content<half> c(cache_shape{1, 1, 2}, {12}, 8, 4, 1);
  const auto store = [&](std::vector<offset_t>& at, std::vector<half>& k, std::vector<half>& v, index_t* lengths) {
    return cache{c.shape, lengths, entries{k.data(), flat{at.data(), 8}, 8}, entries{v.data(), flat{at.data(), 4}, 4}};
  };
  auto source = host::in_strides(c, "hnd", hnd);
  std::vector<offset_t> room{0, 8, 16};
  auto keys = host::poisoned<half>(16 * 8), values = host::poisoned<half>(16 * 4);
  std::vector<index_t> lengths{0, 0};
  const auto small = store(room, keys, values, lengths.data());
  const auto tokens_from = [&](index_t first, const index_t* count) {
    return cache{c.shape, count, entries{source.keys.data() + first * 8, source.key_layout, 8},
                 entries{source.values.data() + first * 4, source.value_layout, 4}};
  };
  const index_t eight[] = {8, 8}, three[] = {3, 3};
  REQUIRE(append(cpu{}, tokens_from(0, eight), small, lengths).ok());
  CHECK(append(cpu{}, tokens_from(8, three), small, lengths).code == status_code::small_output);
  std::vector<index_t> slots_of{0, 2, 4, 6, 7, 1, 7};
  std::vector<offset_t> offsets{0, 5, 7};
  const selection kept{slots_of, offsets};
  REQUIRE(compact_in_place(cpu{}, small, kept).ok());
  retained_lengths(kept, lengths.data());
  REQUIRE(append(cpu{}, tokens_from(8, three), small, lengths).ok());
  CHECK(lengths == std::vector<index_t>{8, 5});
  // Growing beyond the capacity is a gather into new memory; every slot is retained.
  std::vector<index_t> every(13);
  std::vector<offset_t> all{0, 8, 13}, larger(3);
  for (index_t i = 0; i < 13; ++i) every[std::size_t(i)] = i < 8 ? i : i - 8;
  const selection whole{every, all};
  flat_offsets(whole, 16, larger.data());
  auto more_keys = host::poisoned<half>(larger[2] * 8), more_values = host::poisoned<half>(larger[2] * 4);
  const auto large = store(larger, more_keys, more_values, lengths.data());
  REQUIRE(gather(cpu{}, small, whole, large).ok());
  const index_t tokens_of[2][8] = {{0, 2, 4, 6, 7, 8, 9, 10}, {1, 7, 8, 9, 10}};
  for (index_t r = 0; r < 2; ++r)
    for (index_t s = 0; s < lengths[std::size_t(r)]; ++s)
      for (index_t d = 0; d < 8; ++d)
        REQUIRE(host::same_bits(*large.keys().at(c.shape.row(r), s, d),
                                c.keys[std::size_t(r)][std::size_t(tokens_of[r][s] * 8 + d)]));
}

TEST_CASE("append: keys alone; a full row is refused though it has no values") {
  const std::vector<offset_t> offsets{0, 3, 5};
  std::vector<float> keys(6, -1.F);
  std::vector<index_t> lengths{2, 1};
  const key_cache to{cache_shape{1, 1, 2}, lengths.data(), entries{keys.data(), flat{offsets.data(), 1}, 1}};
  std::vector<float> k{1, 2, 3, 4};
  const auto added = [&](index_t n) {
    return key_cache{cache_shape{1, 1, 2}, n, entries{k.data(), hnd(1, 2, 2, 1), 1}};
  };
  const status full_row = append(cpu{}, added(2), to, lengths);
  CHECK(full_row.code == status_code::small_output);
  CHECK(full_row.needed == 4 * offset_t{sizeof(float)});
  CHECK(keys == std::vector<float>(6, -1.F));
  CHECK(lengths == std::vector<index_t>{2, 1});
  REQUIRE(append(cpu{}, added(1), to, lengths).ok());
  CHECK(keys == std::vector<float>{-1, -1, 1, -1, 3, -1});
}

TEST_CASE("append: the blocks of new slots must be in the table, others need not") {
  std::vector<float> pool(3 * 4, -1.F), k{1, 2, 3};
  std::vector<index_t> table{2, -1, -1, 1}, lengths{3, 4};
  const key_cache to{cache_shape{1, 1, 2}, lengths.data(),
                     entries{pool.data(), paged_per_row(table.data(), 2, 4, 1), 1}};
  const auto added = [&](const index_t* n) {
    return key_cache{cache_shape{1, 1, 2}, n, entries{k.data(), hnd(1, 2, 1, 1), 1}};
  };
  const index_t second[] = {0, 1}, first[] = {1, 0};
  REQUIRE(append(cpu{}, added(second), to, lengths).ok());
  CHECK(pool[4] == 2);
  REQUIRE(append(cpu{}, added(first), to, lengths).ok());
  CHECK(pool[11] == 1);
  const auto before = pool;
  const status none = append(cpu{}, added(first), to, lengths);
  CHECK(none.code == status_code::bad_shape);
  CHECK(std::string(none.argument) == "to");
  CHECK(pool == before);
  CHECK(lengths == std::vector<index_t>{4, 5});
}

TEST_CASE("append: bad input") {
  std::vector<float> memory(64);
  std::vector<index_t> lengths{0, 0}, one{0};
  const entries e{memory.data(), hnd(1, 2, 4, 2), 2};
  float* const null = nullptr;
  const entries none{null, hnd(1, 2, 4, 2), 2}, wide{memory.data(), hnd(1, 2, 4, 4), 4};
  const key_cache to{cache_shape{1, 1, 2}, lengths.data(), e};
  const auto expect = [&](const status& s, status_code code, const char* argument) {
    CHECK(s.code == code);
    CHECK(std::string(s.argument) == argument);
    CHECK(lengths == std::vector<index_t>{0, 0});
  };
  expect(append(cpu{}, key_cache{cache_shape{1, 1, 2}, 1, none}, to, lengths), status_code::bad_pointer, "added.keys");
  expect(append(cpu{}, key_cache{cache_shape{1, 1, 2}, 1, wide}, to, lengths), status_code::bad_shape, "added.keys");
  expect(append(cpu{}, key_cache{cache_shape{1, 1, 1}, 1, e}, to, lengths), status_code::bad_shape, "added");
  expect(append(cpu{}, key_cache{cache_shape{1, 1, 2}, -1, e}, to, lengths), status_code::bad_shape, "lengths");
  expect(append(cpu{}, to, to, one), status_code::bad_shape, "lengths");
  expect(append(cpu{}, to, key_cache{cache_shape{1, 1, 2}, 3, e}, lengths), status_code::bad_shape, "lengths");
  expect(append(cpu{}, to, key_cache{cache_shape{1, 1, 2}, lengths.data(), none}, lengths), status_code::bad_pointer,
         "to.keys");
}
