// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include <string>

#include "../support/host.hpp"

using namespace kvevict;

namespace {

struct sets {
  std::vector<index_t> slots;
  std::vector<offset_t> offsets{0};
  explicit sets(const std::vector<std::vector<index_t>>& rows) {
    for (const auto& row : rows) {
      slots.insert(slots.end(), row.begin(), row.end());
      offsets.push_back(offset_t(slots.size()));
    }
  }
  [[nodiscard]] selection view() { return {slots, offsets}; }
};

std::vector<std::vector<index_t>> common(const cache_shape& shape, index_t length,
                                         const std::vector<std::vector<index_t>>& rows, token_set how,
                                         set_scope scope) {
  float none = 0;
  const key_cache c{shape, length, entries{&none, strided{}, 1}};
  sets from(rows);
  host::kept out;
  out.slots.assign(200, -7);
  out.offsets.assign(rows.size() + 1, -7);
  host::scratch memory(one_set_bytes(c));
  const status s = one_set(c, from.view(), how, scope, {out.slots, out.offsets}, memory.get());
  REQUIRE(s.ok());
  return out.rows();
}

using lists = std::vector<std::vector<index_t>>;

}  // namespace

TEST_CASE("one token set: union and vote, per layer and per sequence") {
  const cache_shape shape{2, 1, 2};
  const lists rows{{0, 1, 5}, {0, 2, 5}, {0, 2, 5}, {0, 3, 5}};
  CHECK(common(shape, 6, rows, token_set::union_of, set_scope::layer) ==
        lists{{0, 1, 2, 5}, {0, 1, 2, 5}, {0, 2, 3, 5}, {0, 2, 3, 5}});
  const lists all{{0, 1, 2, 3, 5}, {0, 1, 2, 3, 5}, {0, 1, 2, 3, 5}, {0, 1, 2, 3, 5}};
  CHECK(common(shape, 6, rows, token_set::union_of, set_scope::sequence) == all);
  // Layer 0: slots 1 and 2 have a vote each, the smaller stays; sequence: slot 2 has two.
  CHECK(common(shape, 6, rows, token_set::vote, set_scope::layer) == lists{{0, 1, 5}, {0, 1, 5}, {0, 2, 5}, {0, 2, 5}});
  CHECK(common(shape, 6, rows, token_set::vote, set_scope::sequence) ==
        lists{{0, 2, 5}, {0, 2, 5}, {0, 2, 5}, {0, 2, 5}});
  // Uneven rows: the average, rounded down.
  CHECK(common({1, 1, 2}, 6, {{0, 1, 2, 5}, {5}}, token_set::vote, set_scope::layer) == lists{{0, 5}, {0, 5}});
  // Sequences never mix.
  CHECK(common({2, 2, 1}, 6, {{0}, {1}, {2}, {3}}, token_set::union_of, set_scope::sequence) ==
        lists{{0, 2}, {1, 3}, {0, 2}, {1, 3}});
}

TEST_CASE("one token set: what every row protects stays") {
  const host::problem p(4, 2, 80, 8, 4, 80);
  const ahakv<> policy{.budget = slots(20), .window = 8, .sinks = 3};
  host::kept kept = host::evict(policy, p.in());
  for (const token_set how : {token_set::vote, token_set::union_of})
    for (const auto& row : common({1, 1, 4}, 80, kept.rows(), how, set_scope::layer)) {
      CHECK((how == token_set::vote ? row.size() == 20 : row.size() >= 20));
      for (const index_t slot : {0, 1, 2, 72, 73, 74, 75, 76, 77, 78, 79})
        CHECK(std::find(row.begin(), row.end(), slot) != row.end());
    }
}

TEST_CASE("one token set: bad input") {
  float none = 0;
  const index_t uneven[] = {6, 5};
  const key_cache c{cache_shape{1, 1, 2}, 6, entries{&none, strided{}, 1}};
  const key_cache ragged_rows{cache_shape{1, 1, 2}, uneven, entries{&none, strided{}, 1}};
  sets from({{0, 1}, {1, 2}});
  std::vector<index_t> slots_of(3, -7);
  std::vector<offset_t> offsets(3, -7);
  host::scratch memory(one_set_bytes(c));
  const auto expect = [&](const status& s, status_code code, const char* argument) {
    CHECK(s.code == code);
    CHECK(std::string(s.argument) == argument);
    CHECK(slots_of == std::vector<index_t>(3, -7));
  };
  const selection out{slots_of, offsets};
  const status tight = one_set(c, from.view(), token_set::vote, set_scope::layer, out, memory.get());
  expect(tight, status_code::small_output, "out");
  CHECK(tight.needed == 4);
  expect(one_set(c, from.view(), token_set::vote, set_scope::layer, out, {}), status_code::small_workspace,
         "workspace");
  expect(one_set(c, from.view(), token_set::vote, set_scope::layer, from.view(), memory.get()),
         status_code::bad_pointer, "out");
  expect(one_set(c, from.view(), token_set::vote, set_scope::layer, selection{}, memory.get()),
         status_code::bad_pointer, "out");
  expect(one_set(ragged_rows, from.view(), token_set::vote, set_scope::layer, out, memory.get()),
         status_code::bad_shape, "length");
  sets wrong({{0, 9}, {1, 2}});
  expect(one_set(c, wrong.view(), token_set::vote, set_scope::layer, out, memory.get()), status_code::bad_shape,
         "selection");
}
