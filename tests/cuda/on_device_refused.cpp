// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include <cstdlib>
#include <kvevict/cpu.hpp>
#include <string_view>

#include "on_device.hpp"

using namespace kvevict;
using on_device::calls;

namespace {

void refused(const status& s, status_code code, std::string_view argument) {
  CHECK(s.code == code);
  CHECK(std::string_view(s.argument) == argument);
}

/// Good arguments of every call, in memory of the host's: two rows of three slots. A test spoils one of them.
struct arguments {
  static constexpr index_t dims = 4, most = 3, queries = 2;
  using dense = entries<float, strided>;
  cache_shape shape{.kv_heads = 2};
  std::vector<float> keys = std::vector<float>(2 * most * dims, 1), values = keys, others = keys, asked = keys;
  std::vector<float> scores = std::vector<float>(2 * most, 2), numbers = scores;
  std::vector<index_t> slots = std::vector<index_t>(2 * most, -1), lengths{3, 3}, positions{0, 1, 2, 0, 1, 2};
  std::vector<index_t> side_numbers = positions, order = positions;
  std::vector<offset_t> offsets{0, 1, 2}, score_offsets{0, 3, 6};
  std::vector<cache_line> lines = std::vector<cache_line>(1000);

  cache<dense, dense> held{shape, lengths.data(), dense{keys.data(), hnd(1, 2, most, dims), dims},
                           dense{values.data(), hnd(1, 2, most, dims), dims}};
  cache<dense, dense> other{shape, lengths.data(), dense{others.data(), hnd(1, 2, most, dims), dims},
                            dense{others.data(), hnd(1, 2, most, dims), dims}};
  query_view<dense> query{dense{asked.data(), hnd(1, 2, queries, dims), dims}, 2, row_lengths(queries)};
  log_sum_exp_view lse{numbers.data(), hnd(1, 2, queries, 1)};
  position_view position{positions.data(), hnd(1, 2, most, 1)};
  value_norm_view norms{numbers.data(), hnd(1, 2, most, 1)};
  ahakv<score::plain_gain> policy{.budget = slots_of(2), .window = 1};
  index_t longest = most;
  selection out{slots, offsets};
  ragged<float> to{scores.data(), score_offsets.data(), 2};
  row_scores given{shape, {scores.data(), score_offsets.data(), 2}};
  side_array<index_t> beside = side(side_numbers.data(), hnd(1, 2, most, 1));
  token_order by_token{order.data(), hnd(1, 2, most, 1)};
  workspace memory = workspace_of(lines);

  static constexpr amount slots_of(index_t n) { return {n, 0}; }
  [[nodiscard]] auto in() const { return inputs{held, query, lse, position, norms}; }
  [[nodiscard]] std::vector<std::vector<float>> floats() const {
    return {keys, values, others, asked, scores, numbers};
  }
  [[nodiscard]] std::vector<std::vector<index_t>> indices() const {
    return {slots, lengths, positions, side_numbers, order};
  }
};

/// Every call after `spoil`: what names the argument, and no memory that changed.
template <class Call>
void check(status_code code, std::string_view argument, void (*spoil)(arguments&), const Call& call) {
  arguments a;
  spoil(a);
  const auto floats = a.floats();
  const auto indices = a.indices();
  const auto offsets = a.offsets;
  CAPTURE(argument);
  refused(call(a), code, argument);
  CHECK(a.floats() == floats);
  CHECK(a.indices() == indices);
  CHECK(a.offsets == offsets);
}

}  // namespace

TEST_CASE("refused: what the host knows to be wrong with an eviction, before anything reaches the device") {
  const auto evict = [](arguments& a) { return calls::evict(a.longest, a.policy, a.in(), a.out, a.memory); };
  const auto score = [](arguments& a) { return calls::score_rows(a.longest, a.policy, a.in(), a.to, a.memory); };
  const auto both = [&](status_code code, std::string_view argument, void (*spoil)(arguments&)) {
    check(code, argument, spoil, evict);
    check(code, argument, spoil, score);
  };
  using code = status_code;
  both(code::bad_option, "window", [](arguments& a) { a.policy.window = 0; });
  both(code::bad_shape, "layers", [](arguments& a) { a.held.extents.layers = 0; });
  both(code::bad_pointer, "keys", [](arguments& a) { a.held.key_entries.data = nullptr; });
  both(code::bad_shape, "keys", [](arguments& a) { a.held.key_entries.dim_count = 0; });
  both(code::bad_shape, "keys", [](arguments& a) { a.held.key_entries.dim_count = most_dims + 1; });
  both(code::bad_pointer, "values", [](arguments& a) { a.held.value_entries.data = nullptr; });
  both(code::bad_shape, "longest", [](arguments& a) { a.longest = 0; });
  both(code::bad_shape, "longest", [](arguments& a) { a.longest = most_slots + 1; });
  both(code::bad_shape, "query_heads", [](arguments& a) { a.query.query_heads = 3; });
  both(code::bad_pointer, "queries", [](arguments& a) { a.query.entries.data = nullptr; });
  both(code::bad_shape, "queries", [](arguments& a) { a.query.entries.dim_count = 3; });
  both(code::bad_input, "queries", [](arguments& a) { a.query.rows = 0; });
  both(code::bad_pointer, "log_sum_exp", [](arguments& a) { a.lse.data = nullptr; });
  both(code::bad_pointer, "positions", [](arguments& a) { a.position.data = nullptr; });
  both(code::bad_pointer, "value_norms", [](arguments& a) { a.norms.data = nullptr; });
  both(code::small_workspace, "workspace", [](arguments& a) { a.memory = {}; });
  both(code::small_workspace, "workspace", [](arguments& a) { ++a.memory.data; });
  check(
      code::bad_pointer, "scores", [](arguments& a) { a.to.data = nullptr; }, score);
  check(
      code::bad_pointer, "scores", [](arguments& a) { a.to.offsets = nullptr; }, score);
  check(
      code::bad_shape, "scores", [](arguments& a) { a.to.rows = 1; }, score);
  check(
      code::bad_pointer, "offsets", [](arguments& a) { a.out.offsets.data = nullptr; }, evict);
  check(
      code::small_output, "offsets", [](arguments& a) { a.out.offsets.count = 2; }, evict);
  check(
      code::bad_pointer, "slots", [](arguments& a) { a.out.slots.data = nullptr; }, evict);
  if (!on_device::found())
    check(
        code::device_error, "stream", [](arguments&) {}, evict);
}

TEST_CASE("refused: what the host knows to be wrong with a selection by given scores") {
  static index_t pool = 0;
  static row_receipt receipt{};
  const auto select = [](arguments& a) { return calls::select(a.given, a.out, a.memory); };
  using code = status_code;
  check(
      code::bad_pointer, "scores", [](arguments& a) { a.given.scores.data = nullptr; }, select);
  check(
      code::bad_pointer, "scores", [](arguments& a) { a.given.scores.offsets = nullptr; }, select);
  check(
      code::bad_shape, "scores", [](arguments& a) { a.given.scores.rows = 3; }, select);
  check(
      code::bad_shape, "layers", [](arguments& a) { a.given.shape.layers = 0; }, select);
  check(
      code::bad_shape, "budget_pools",
      [](arguments& a) {
        a.given.pools = {&pool, 0};
      },
      select);
  check(
      code::bad_shape, "budget_pools",
      [](arguments& a) {
        a.given.pools = {&pool, 3};
      },
      select);
  check(
      code::bad_pointer, "offsets", [](arguments& a) { a.out.offsets.data = nullptr; }, select);
  check(
      code::small_output, "offsets", [](arguments& a) { a.out.offsets.count = 2; }, select);
  check(
      code::bad_pointer, "slots", [](arguments& a) { a.out.slots.data = nullptr; }, select);
  check(
      code::small_output, "receipts",
      [](arguments& a) {
        a.out.receipts = {&receipt, 1};
      },
      select);
  check(
      code::small_workspace, "workspace", [](arguments& a) { a.memory = {}; }, select);
  check(
      code::small_workspace, "workspace", [](arguments& a) { ++a.memory.data; }, select);
  if (!on_device::found())
    check(
        code::device_error, "stream", [](arguments&) {}, select);
}

TEST_CASE("refused: what the host knows to be wrong with a compaction") {
  const auto gather = [](arguments& a) { return calls::gather(a.held, a.out, a.other, a.beside); };
  const auto in_place = [](arguments& a) { return calls::compact_in_place(a.held, a.out, a.beside); };
  const auto swap = [](arguments& a) { return calls::swap_fill(a.held, a.by_token, a.out, a.memory); };
  const auto lengths = [](arguments& a) { return calls::retained_lengths(a.out, a.lengths.data()); };
  const auto all = [&](status_code code, std::string_view argument, void (*spoil)(arguments&)) {
    check(code, argument, spoil, gather);
    check(code, argument, spoil, in_place);
    check(code, argument, spoil, swap);
  };
  using code = status_code;
  all(code::bad_shape, "kv_heads", [](arguments& a) { a.held.extents.kv_heads = 0; });
  all(code::bad_pointer, "keys", [](arguments& a) { a.held.key_entries.data = nullptr; });
  all(code::bad_pointer, "selection", [](arguments& a) { a.out.slots.data = nullptr; });
  all(code::bad_pointer, "selection", [](arguments& a) { a.out.offsets.data = nullptr; });
  all(code::bad_shape, "selection", [](arguments& a) { a.out.offsets.count = 2; });
  check(
      code::bad_shape, "to", [](arguments& a) { a.other.extents.kv_heads = 1; }, gather);
  check(
      code::bad_pointer, "to.keys", [](arguments& a) { a.other.key_entries.data = nullptr; }, gather);
  check(
      code::bad_shape, "to.values", [](arguments& a) { a.other.value_entries.dim_count = 3; }, gather);
  check(
      code::bad_pointer, "side", [](arguments& a) { a.beside.to = nullptr; }, gather);
  check(
      code::bad_pointer, "side", [](arguments& a) { a.beside.from = nullptr; }, in_place);
  check(
      code::bad_pointer, "order", [](arguments& a) { a.by_token.data = nullptr; }, swap);
  check(
      code::small_workspace, "workspace", [](arguments& a) { a.memory = {}; }, swap);
  check(
      code::bad_pointer, "selection", [](arguments& a) { a.out.offsets.data = nullptr; }, lengths);
  check(
      code::bad_shape, "selection", [](arguments& a) { a.out.offsets.count = 1; }, lengths);
  if (!on_device::found()) {
    check(
        code::device_error, "stream", [](arguments&) {}, gather);
    check(
        code::device_error, "stream", [](arguments&) {}, in_place);
    check(
        code::device_error, "stream", [](arguments&) {}, swap);
    check(
        code::device_error, "stream", [](arguments&) {}, lengths);
  }
}

namespace {

on_device::scored_rows two_rows() { return {{.kv_heads = 2}, {0, 300, 700}, std::vector<float>(700, 0.5F)}; }

}  // namespace

TEST_CASE("on the device: an error of the caller's is still there after our calls") {
  CHECK(on_device::after_refused_allocation(two_rows()) == "");
  // The process that the device is lost to is another one: this program, called so (on_device.cpp).
  const char* const program = std::getenv("KVEVICT_ON_DEVICE");
  REQUIRE(program != nullptr);
  const std::string command = "\"" + std::string(program) + "\" --lose-the-device";
  CHECK(std::system(command.c_str()) == 0);
}
