// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include <algorithm>
#include <string>

#include "../support/storage.hpp"

using namespace kvevict;

namespace {

/// A side that only counts.
struct counted {
  index_t* moves;
  [[nodiscard]] static status check() { return {}; }
  void move(const row_id&, index_t from, index_t to) const {
    REQUIRE(from > to);
    ++*moves;
  }
};

}  // namespace

TEST_CASE("swap-fill: survivors of the tail go into the holes; order and sides follow") {
  {
    std::vector<float> keys{0, 1, 2, 3, 4, 5, 6, 7}, values{10, 11, 12, 13, 14, 15, 16, 17};
    std::vector<index_t> order{0, 1, 2, 3, 4, 5, 6, 7}, positions{0, 10, 20, 30, 40, 50, 60, 70};
    const strided one{.slot = 1};
    const cache c{cache_shape{1, 1, 1}, 8, entries{keys.data(), one, 1}, entries{values.data(), one, 1}};
    std::vector<index_t> slots{1, 3, 5, 6, 7};
    std::vector<offset_t> offsets{0, 5};
    index_t moves = 0;
    REQUIRE(swap_fill(cpu{}, c, token_order{order.data(), one}, selection{slots, offsets}, side(positions.data(), one),
                      counted{&moves})
                .ok());
    // 0, 2 and 4 leave holes; the tokens that lie at 5, 6 and 7 fill them.
    CHECK(std::vector<float>(keys.begin(), keys.begin() + 5) == std::vector<float>{5, 1, 6, 3, 7});
    CHECK(std::vector<float>(values.begin(), values.begin() + 5) == std::vector<float>{15, 11, 16, 13, 17});
    CHECK(std::vector<index_t>(positions.begin(), positions.begin() + 5) == std::vector<index_t>{50, 10, 60, 30, 70});
    CHECK(std::vector<index_t>(order.begin(), order.begin() + 5) == std::vector<index_t>{1, 3, 0, 2, 4});
    CHECK(moves == 3);
    // Again, by token order: tokens 1 (at 1), 5 (at 0) and 7 (at 4) stay.
    slots = {0, 2, 4};
    offsets = {0, 3};
    index_t length = 5;
    const cache shorter{cache_shape{1, 1, 1}, &length, entries{keys.data(), one, 1}, entries{values.data(), one, 1}};
    REQUIRE(swap_fill(cpu{}, shorter, token_order{order.data(), one}, selection{slots, offsets}).ok());
    CHECK(std::vector<float>(keys.begin(), keys.begin() + 3) == std::vector<float>{5, 1, 7});
    CHECK(std::vector<index_t>(order.begin(), order.begin() + 3) == std::vector<index_t>{1, 0, 2});
  }
}

TEST_CASE("both compactions move as little as they can, whatever is retained") {
  std::mt19937 generator(3);
  for (int round = 0; round < 300; ++round) {
    const index_t length = 1 + index_t(generator() % 40), m = index_t(generator() % unsigned(length + 1));
    std::vector<float> keys(std::size_t(length), 0.0F);
    std::iota(keys.begin(), keys.end(), 0.0F);
    std::vector<index_t> order = host::scattered(length, length), slots(static_cast<std::size_t>(length));
    std::shuffle(order.begin(), order.end(), generator);
    std::iota(slots.begin(), slots.end(), 0);
    std::shuffle(slots.begin(), slots.end(), generator);
    slots.resize(std::size_t(std::max(m, 1)));
    std::sort(slots.begin(), slots.begin() + m);
    std::vector<offset_t> offsets{0, m};
    const strided one{.slot = 1};
    const key_cache c{cache_shape{1, 1, 1}, length, entries{keys.data(), one, 1}};
    const auto before = order;
    index_t must_move = 0;  // every survivor that lies behind the new end
    for (index_t k = 0; k < m; ++k) must_move += before[std::size_t(slots[std::size_t(k)])] >= m;
    index_t moves = 0;
    REQUIRE(swap_fill(cpu{}, c, token_order{order.data(), one}, selection{slots, offsets}, counted{&moves}).ok());
    CHECK(moves == must_move);
    for (index_t k = 0; k < m; ++k) {
      const index_t place = order[std::size_t(k)];
      REQUIRE(place < m);
      CHECK(keys[std::size_t(place)] == float(before[std::size_t(slots[std::size_t(k)])]));
    }
    for (index_t k = m; k < length; ++k) CHECK(order[std::size_t(k)] == k);  // of slots that are appended later
    std::vector<index_t> places(order.begin(), order.begin() + m);
    std::sort(places.begin(), places.end());
    for (index_t k = 0; k < m; ++k) CHECK(places[std::size_t(k)] == k);

    // Stable: every entry whose slot changes, and no other.
    std::iota(keys.begin(), keys.end(), 0.0F);
    REQUIRE(compact_in_place(cpu{}, c, selection{slots, offsets}).ok());
    for (index_t k = 0; k < m; ++k) CHECK(keys[std::size_t(k)] == float(slots[std::size_t(k)]));
  }
}

TEST_CASE("swap-fill: bad orders are refused, nothing moves") {
  std::vector<float> keys{0, 1, 2};
  const strided one{.slot = 1};
  const key_cache c{cache_shape{1, 1, 1}, 3, entries{keys.data(), one, 1}};
  std::vector<index_t> slots{2};
  std::vector<offset_t> offsets{0, 1};
  for (std::vector<index_t> order : {std::vector<index_t>{0, 1, 3}, {0, -1, 2}, {2, 2, 2}, {1, 1, 1}, {0, 0, 2}}) {
    const status s = swap_fill(cpu{}, c, token_order{order.data(), one}, selection{slots, offsets});
    CHECK(s.code == status_code::bad_input);
    CHECK(std::string(s.argument) == "order");
    CHECK(check(in_token_order(c, token_order{order.data(), one})).code == status_code::bad_input);
  }
  CHECK(swap_fill(cpu{}, c, token_order{}, selection{slots, offsets}).code == status_code::bad_pointer);
  CHECK(keys == std::vector<float>{0, 1, 2});
}
