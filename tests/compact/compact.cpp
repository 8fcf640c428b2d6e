// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include <string>

#include "../support/storage.hpp"

using namespace kvevict;

namespace {

/// A selection that a test writes by hand.
struct picked {
  std::vector<index_t> slots;
  std::vector<offset_t> offsets{0};
  explicit picked(const std::vector<std::vector<index_t>>& rows) {
    for (const auto& row : rows) {
      slots.insert(slots.end(), row.begin(), row.end());
      offsets.push_back(offset_t(slots.size()));
    }
  }
  [[nodiscard]] selection view() { return {slots, offsets}; }
};

/// Two heads, five slots, keys of two dims and values of one: key dims are 10 head + slot and minus that.
struct small {
  std::vector<float> keys, values;
  std::vector<index_t> positions;
  small() {
    for (int h = 0; h < 2; ++h)
      for (int s = 0; s < 5; ++s) {
        const auto x = float(10 * h + s);
        keys.insert(keys.end(), {x, -x});
        values.push_back(100 + x);
        positions.push_back(1000 * h + 7 * s);
      }
  }
  [[nodiscard]] auto cache() {
    return kvevict::cache{cache_shape{1, 1, 2}, 5, entries{keys.data(), hnd(1, 2, 5, 2), 2},
                          entries{values.data(), hnd(1, 2, 5, 1), 1}};
  }
};
constexpr strided per_slot{.head = 5, .slot = 1};

using floats = std::vector<float>;

}  // namespace

TEST_CASE("in place: stable, front to back, side arrays move along, the rest stays") {
  small s;
  picked kept({{0, 2, 4}, {1, 2}});
  REQUIRE(compact_in_place(cpu{}, s.cache(), kept.view(), side(s.positions.data(), per_slot)).ok());
  CHECK(s.keys == floats{0, -0.F, 2, -2, 4, -4, 3, -3, 4, -4, 11, -11, 12, -12, 12, -12, 13, -13, 14, -14});
  CHECK(s.values == floats{100, 102, 104, 103, 104, 111, 112, 112, 113, 114});
  CHECK(s.positions == std::vector<index_t>{0, 14, 28, 21, 28, 1007, 1014, 1014, 1021, 1028});
  std::vector<index_t> lengths(2);
  retained_lengths(kept.view(), lengths.data());
  CHECK(lengths == std::vector<index_t>{3, 2});
}

TEST_CASE("gather: into ragged memory with slack; the source stays") {
  small s;
  const small before;
  picked kept({{0, 2, 4}, {}});
  std::vector<offset_t> offsets(3);
  flat_offsets(kept.view(), 1, offsets.data());
  CHECK(offsets == std::vector<offset_t>{0, 4, 5});
  floats keys(10, 9), values(5, 9);
  std::vector<index_t> positions(8, 9), lengths{3, 0};
  const cache to{cache_shape{1, 1, 2}, lengths.data(), entries{keys.data(), flat{offsets.data(), 2}, 2},
                 entries{values.data(), flat{offsets.data(), 1}, 1}};
  REQUIRE(gather(cpu{}, s.cache(), kept.view(), to,
                 side(s.positions.data(), per_slot, positions.data(), strided{.head = 4, .slot = 1}))
              .ok());
  CHECK(keys == floats{0, -0.F, 2, -2, 4, -4, 9, 9, 9, 9});
  CHECK(values == floats{100, 102, 104, 9, 9});
  CHECK(positions == std::vector<index_t>{0, 14, 28, 9, 9, 9, 9, 9});
  CHECK(s.keys == before.keys);
  CHECK(s.positions == before.positions);
}

TEST_CASE("gather: a side array goes where its own layout says, row by row") {
  small s;
  picked kept({{0, 2, 4}, {1, 3}});
  floats keys(20, 9), values(10, 9);
  std::vector<index_t> positions(9, 9);
  const cache to{cache_shape{1, 1, 2}, 5, entries{keys.data(), hnd(1, 2, 5, 2), 2},
                 entries{values.data(), hnd(1, 2, 5, 1), 1}};
  REQUIRE(gather(cpu{}, s.cache(), kept.view(), to,
                 side(s.positions.data(), per_slot, positions.data(), strided{.head = 1, .slot = 3}))
              .ok());
  CHECK(positions == std::vector<index_t>{0, 1007, 9, 14, 1021, 9, 28, 9, 9});
}

TEST_CASE("gather: from pages into a head-major cache, whatever the layouts") {
  const host::content<half> c(cache_shape{2, 1, 2}, {13}, 4, 6, 1);
  auto from = host::in_pages(c, host::page_order::hnd);
  auto to = host::in_strides(c, "nhd", nhd);
  std::fill(to.keys.begin(), to.keys.end(), half{});
  picked kept({{0, 12}, {3, 4, 5}, {7}, {1, 11, 12}});
  REQUIRE(gather(cpu{}, from.cache(), kept.view(), to.cache()).ok());
  for (index_t r = 0; r < 4; ++r)
    for (index_t k = 0; k < kept.view()[r].size(); ++k)
      for (index_t d = 0; d < 4; ++d)
        CHECK(to.cache().keys()(c.shape.row(r), k, d) ==
              to_float(c.keys[std::size_t(r)][std::size_t(kept.view()[r][k] * 4 + d)]));
}

TEST_CASE("more than caches hold: every byte comes along, whether lines are whole or not") {
  constexpr index_t heads = 2, length = 28000;
  for (const index_t dim : {128, 100}) {
    CAPTURE(dim);
    // Every element says where it came from.
    const auto number = [&](index_t head, index_t slot, index_t d) {
      return float((head * length + slot) % 4099) + float(d) / 128;
    };
    std::vector<cache_line> room[4];  // keys and values, here and elsewhere; at lines
    std::vector<std::vector<index_t>> rows(heads);
    for (index_t h = 0; h < heads; ++h)
      for (index_t s = 0; s < length; ++s)
        if (s % 7 != 2 + h) rows[std::size_t(h)].push_back(s);
    const picked kept(rows);
    const auto count = [&](index_t h) { return index_t(rows[std::size_t(h)].size()); };
    const auto take = [&](std::vector<cache_line>& lines) {
      lines.resize(cache_lines(offset_t{heads} * length * dim * offset_t(sizeof(float))));
      return reinterpret_cast<float*>(lines.data());
    };
    float *const keys = take(room[0]), *const values = take(room[1]);
    float *const new_keys = take(room[2]), *const new_values = take(room[3]);
    const strided order = hnd(1, heads, length, dim);
    for (index_t h = 0; h < heads; ++h)
      for (index_t s = 0; s < length; ++s)
        for (index_t d = 0; d < dim; ++d) {
          const auto at = order.offset({0, 0, h, h}, s, d);
          keys[at] = number(h, s, d);
          values[at] = -number(h, s, d);
        }
    const cache here{cache_shape{1, 1, heads}, length, entries{keys, order, dim}, entries{values, order, dim}};
    const cache there{here.shape(), length, entries{new_keys, order, dim}, entries{new_values, order, dim}};
    REQUIRE(2 * offset_t(kept.slots.size()) * dim * offset_t(sizeof(float)) > offset_t{32} << 20);

    const auto wrong = [&](const float* k, const float* v) {
      index_t found = 0;
      for (index_t h = 0; h < heads; ++h)
        for (index_t i = 0; i < count(h); ++i)
          for (index_t d = 0; d < dim; ++d) {
            const float expected = number(h, rows[std::size_t(h)][std::size_t(i)], d);
            const auto at = order.offset({0, 0, h, h}, i, d);
            found += k[at] != expected || v[at] != -expected;
          }
      return found;
    };
    REQUIRE(gather(cpu{}, here, picked(kept).view(), there).ok());
    CHECK(wrong(new_keys, new_values) == 0);
    REQUIRE(compact_in_place(cpu{}, here, picked(kept).view()).ok());
    CHECK(wrong(keys, values) == 0);
    for (index_t h = 0; h < heads; ++h) {  // and nothing behind what is retained
      const auto at = order.offset({0, 0, h, h}, count(h), 0);
      CHECK(new_keys[at] == 0.0F);
      CHECK(keys[at] == number(h, count(h), 0));
    }
  }
}

TEST_CASE("NaN payloads and signs survive: bytes move, not numbers") {
  small s;
  const float payload = std::bit_cast<float>(0xffa00001u);
  s.keys[6] = payload;  // slot 3 of head 0
  picked kept({{3}, {0}});
  REQUIRE(compact_in_place(cpu{}, s.cache(), kept.view()).ok());
  CHECK(std::bit_cast<std::uint32_t>(s.keys[0]) == 0xffa00001u);
}

TEST_CASE("selections that do not belong to the cache are refused, and nothing moves") {
  struct wrong {
    const char* what;
    std::vector<index_t> slots;
    std::vector<offset_t> offsets;
  };
  const wrong table[] = {{"descending", {2, 1, 0}, {0, 2, 3}},
                         {"twice", {1, 1, 0}, {0, 2, 3}},
                         {"past the row", {0, 5, 0}, {0, 2, 3}},
                         {"negative", {-1, 2, 0}, {0, 2, 3}},
                         {"a row too few", {0, 1}, {0, 2}},
                         {"first offset", {0, 1, 2}, {1, 2, 3}},
                         {"offsets descend", {0, 1, 2}, {0, 2, 1}},
                         {"past the slots", {0, 1}, {0, 2, 3}},
                         {"more than a row", {0, 1, 2, 3, 4, 5}, {0, 6, 6}}};
  for (wrong w : table) {
    CAPTURE(w.what);
    small s;
    const small before;
    const selection kept{w.slots, w.offsets};
    floats keys(20), values(10);
    const cache to{cache_shape{1, 1, 2}, 5, entries{keys.data(), hnd(1, 2, 5, 2), 2},
                   entries{values.data(), hnd(1, 2, 5, 1), 1}};
    for (const status got : {compact_in_place(cpu{}, s.cache(), kept), gather(cpu{}, s.cache(), kept, to)}) {
      CHECK(got.code == status_code::bad_shape);
      CHECK(std::string(got.argument) == "selection");
    }
    CHECK(s.keys == before.keys);
    CHECK(keys == floats(20));
  }
}

TEST_CASE("gather: bad destinations") {
  small s;
  picked kept({{0, 2, 4}, {1, 2}});
  floats memory(40);
  float* const null = nullptr;
  const auto to = [&](float* k, float* v, cache_shape shape = {1, 1, 2}, index_t dims = 2) {
    return cache{shape, 5, entries{k, hnd(1, 2, 5, 2), dims}, entries{v, hnd(1, 2, 5, 1), 1}};
  };
  const auto code = [&](const auto& target, const char* argument) {
    const status got = gather(cpu{}, s.cache(), kept.view(), target);
    CHECK(std::string(got.argument) == argument);
    CHECK(std::string(got.sentence).size() > 10);
    return got.code;
  };
  float* const m = memory.data();
  CHECK(code(to(null, m), "to.keys") == status_code::bad_pointer);
  CHECK(code(to(m, null), "to.values") == status_code::bad_pointer);
  CHECK(code(to(m, m + 20, {1, 1, 1}), "to") == status_code::bad_shape);
  CHECK(code(to(m, m + 20, {2, 1, 2}), "to") == status_code::bad_shape);
  CHECK(code(to(m, m + 20, {1, 1, 2}, 1), "to.keys") == status_code::bad_shape);
  CHECK(code(to(s.keys.data(), m), "to.keys") == status_code::bad_pointer);      // the source itself
  CHECK(code(to(s.keys.data() + 3, m), "to.keys") == status_code::bad_pointer);  // one element in common
  CHECK(code(to(s.keys.data() + 9, m), "to.keys") == status_code::bad_pointer);  // the last one of a row
  CHECK(code(to(m, s.values.data() - 2), "to.values") == status_code::bad_pointer);

  const offset_t narrow[] = {0, 2, 4};
  const cache tight{cache_shape{1, 1, 2}, 2, entries{m, flat{narrow, 2}, 2}, entries{m + 20, flat{narrow, 1}, 1}};
  const status small_room = gather(cpu{}, s.cache(), kept.view(), tight);
  CHECK(small_room.code == status_code::small_output);
  CHECK(small_room.needed == 3);

  CHECK(gather(cpu{}, s.cache(), kept.view(), to(m, m + 20), side<index_t>(nullptr, per_slot)).code ==
        status_code::bad_pointer);
  CHECK(compact_in_place(cpu{}, s.cache(), selection{span<index_t>{}, kept.offsets}).code == status_code::bad_pointer);
  CHECK(memory == floats(40));
}
