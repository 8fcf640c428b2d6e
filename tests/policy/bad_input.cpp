// SPDX-License-Identifier: MIT
// What a caller can get wrong, entry point by entry point: the status names the argument, nothing is changed.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string>

#include "../support/host.hpp"

using namespace kvevict;
using host::composed;
using host::problem;

namespace {

struct evict_call {
  problem p{2, 2, 40, 8, 4, 40};
  cache_shape shape{1, 1, 2};
  index_t length = 40;
  std::vector<index_t> slots;
  std::vector<offset_t> offsets = std::vector<offset_t>(3, -7);
  std::vector<row_receipt> receipts = std::vector<row_receipt>(2);
  offset_t slot_room = 80, workspace_room = 1 << 22;
  const float *keys = p.keys.data(), *values = p.values.data(), *queries = p.queries.data();
  index_t query_heads = 4, query_rows = 40, dims = 8, query_dims = 8;
  bool misaligned = false;

  template <class Policy>
  status run(const Policy& policy) {
    slots.assign(std::size_t(slot_room), -7);
    const std::vector<float> before = p.keys;
    const cache view{shape, length, entries{keys, hnd(1, 2, 40, 8), dims},
                     entries{values, hnd(1, 2, 40, 4), index_t{4}}};
    const inputs in{view, query_view{entries{queries, hnd(1, 4, 40, 8), query_dims}, query_heads, query_rows}};
    host::scratch memory(workspace_room + 64);
    workspace w{memory.get().data + (misaligned ? 4 : 0), workspace_room};
    const status s = evict(cpu{}, policy, in, selection{slots, offsets, receipts}, w);
    CHECK(p.keys == before);
    if (!s.ok()) {
      CHECK(*s.sentence != 0);
      CHECK(*s.argument != 0);
      for (const index_t slot : slots) CHECK(slot == -7);
      for (const offset_t o : offsets) CHECK(o == -7);
    }
    return s;
  }
};

void check_refused(const status& s, status_code code, const char* argument) {
  CHECK(s.code == code);
  CHECK(std::string(s.argument) == argument);
}

const snapkv<> good{.budget = slots(20), .window = 8};

/// A call that is right but for one change.
template <class Change, class Policy = snapkv<>>
status run_with(const Change& change, const Policy& policy = good) {
  evict_call c;
  change(c);
  return c.run(policy);
}

}  // namespace

TEST_CASE("evict: shapes and lengths") {
  using enum status_code;
  CHECK(evict_call{}.run(good).ok());
  const auto with_shape = [](cache_shape s) {
    evict_call c;
    c.shape = s;
    return c.run(good);
  };
  check_refused(with_shape({0, 1, 2}), bad_shape, "layers");
  check_refused(with_shape({-1, 1, 2}), bad_shape, "layers");
  check_refused(with_shape({1, 0, 2}), bad_shape, "seqs");
  check_refused(with_shape({1, 1, 0}), bad_shape, "kv_heads");
  check_refused(with_shape({-1, -1, 2}), bad_shape, "layers");
  check_refused(with_shape({1, 1, 2, 3, 2}), bad_shape, "first_layer");
  check_refused(with_shape({1, 1, 2, -1, 2}), bad_shape, "first_layer");
  for (const index_t bad : {0, -5}) {
    evict_call c;
    c.length = bad;
    check_refused(c.run(good), bad_shape, "length");
  }
  // Too many rows to number; asked of the check itself, because no test owns so much memory.
  check_refused(check(cache_shape{1 << 11, 1 << 11, 1 << 11}), bad_shape, "shape");
  check_refused(check(cache_shape{1 << 16, 1 << 16, 1}), bad_shape, "shape");  // the product of two passes 2^32 already
  CHECK(check(cache_shape{1 << 10, 1 << 10, 1 << 10}).ok());
}

TEST_CASE("evict: pointers and inputs") {
  using enum status_code;
  check_refused(run_with([](evict_call& c) { c.keys = nullptr; }), bad_pointer, "keys");
  check_refused(run_with([](evict_call& c) { c.values = nullptr; }), bad_pointer, "values");
  check_refused(run_with([](evict_call& c) { c.queries = nullptr; }), bad_pointer, "queries");
  check_refused(run_with([](evict_call& c) { c.dims = 0; }), bad_shape, "keys");
  check_refused(run_with([](evict_call& c) { c.dims = most_dims + 1; }), bad_shape, "keys");
  check_refused(run_with([](evict_call& c) { c.query_dims = 7; }), bad_shape, "queries");
  check_refused(run_with([](evict_call& c) { c.query_heads = 3; }), bad_shape, "query_heads");
  check_refused(run_with([](evict_call& c) { c.query_heads = 0; }), bad_shape, "query_heads");
  check_refused(run_with([](evict_call& c) { c.query_rows = 7; }), bad_input, "queries");
  check_refused(run_with([](evict_call& c) { c.query_rows = -1; }), bad_input, "queries");
  check_refused(run_with([](evict_call& c) { c.query_rows = 41; }), bad_shape, "queries");
  check_refused(run_with([](evict_call& c) { c.query_rows = 39; }, h2o{.budget = slots(20)}), bad_input, "queries");
}

TEST_CASE("evict: budgets and options") {
  using enum status_code;
  const auto run = [](const auto& policy) { return evict_call{}.run(policy); };
  check_refused(run(snapkv<>{.budget = slots(0)}), bad_budget, "budget");
  check_refused(run(snapkv<>{.budget = slots(-3)}), bad_budget, "budget");
  check_refused(run(snapkv<>{.budget = percent(1)}), bad_budget, "budget");
  check_refused(run(snapkv<>{.budget = slots(7), .window = 8}), bad_budget, "budget");
  CHECK(run(snapkv<>{.budget = slots(7), .window = 8}).needed == 8);
  check_refused(run(snapkv<>{.budget = slots(9), .window = 8, .sinks = 2}), bad_budget, "budget");
  check_refused(run(streaming_llm{.budget = slots(3)}), bad_budget, "budget");
  check_refused(run(snapkv<>{.budget = slots(20), .window = 0}), bad_option, "window");
  check_refused(run(snapkv<>{.budget = slots(20), .pool_width = 4}), bad_option, "pool_width");
  check_refused(run(snapkv<>{.budget = slots(20), .pool_width = -1}), bad_option, "pool_width");
  check_refused(run(snapkv<>{.budget = slots(20), .sinks = -1}), bad_option, "sinks");
  check_refused(run(snapkv<>{.budget = slots(20), .window = 8, .recent = -2}), bad_option, "recent");
  check_refused(run(ahakv<>{.budget = slots(20), .window = 8, .prior_width = 2}), bad_option, "prior_width");
  check_refused(run(ahakv<>{.budget = slots(20), .window = 8, .gain_floor = std::nan("")}), bad_option, "gain_floor");
  check_refused(run(nacl{.budget = slots(20), .window = 8, .random = 1.5}), bad_option, "random");
  check_refused(run(nacl{.budget = slots(20), .window = 8, .temperature = 0}), bad_option, "temperature");
  check_refused(run(pyramidkv<>{.budget = slots(20), .beta = 0.5}), bad_option, "beta");
  for (const double floor : {-0.1, 1.1, std::nan("")}) check_refused(run(adakv{good, floor}), bad_option, "floor");
  {
    evict_call c;
    c.slot_room = 120;
    CHECK(c.run(snapkv<>{.budget = slots(4000), .window = 8}).ok());
  }
}

TEST_CASE("evict: output and workspace") {
  using enum status_code;
  const problem p(2, 2, 40, 8, 4, 40);
  const offset_t needed = workspace_bytes(cpu{}, good, p.in());
  {
    evict_call c;
    c.workspace_room = needed;
    CHECK(c.run(good).ok());
  }
  {
    evict_call c;
    c.workspace_room = needed - 1;
    const status s = c.run(good);
    check_refused(s, small_workspace, "workspace");
    CHECK(s.needed == needed);
  }
  {
    evict_call c;
    c.misaligned = true;
    check_refused(c.run(good), small_workspace, "workspace");
  }
  {
    evict_call c;
    c.slot_room = 39;
    const status s = c.run(good);
    check_refused(s, small_output, "slots");
    CHECK(s.needed == 40);
  }
  {
    evict_call c;
    c.offsets.resize(2, -7);
    check_refused(c.run(good), small_output, "offsets");
  }
  {
    evict_call c;
    c.receipts.resize(1);
    check_refused(c.run(good), small_output, "receipts");
  }
  std::vector<index_t> slots(40);
  std::vector<offset_t> offsets(3);
  host::scratch memory(needed);
  check_refused(evict(cpu{}, good, p.in(), selection{{nullptr, 40}, offsets}, memory.get()), bad_pointer, "slots");
  check_refused(evict(cpu{}, good, p.in(), selection{slots, {nullptr, 3}}, memory.get()), bad_pointer, "offsets");
  check_refused(evict(cpu{}, good, p.in(), selection{slots, offsets}, workspace{nullptr, needed}), bad_pointer,
                "workspace");
}

TEST_CASE("evict: NaN and Inf in the cache select something lawful") {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()})
    for (const index_t where : {0, 100, 639}) {
      problem p(2, 2, 40, 8, 4, 40);
      p.keys[std::size_t(where)] = bad;
      p.values[std::size_t(where) / 2] = bad;
      const auto lawful = [&](const auto& policy) {
        auto kept = host::evict(policy, p.in());
        CHECK(kept.status.ok());
        for (const auto& row : kept.rows()) {
          CHECK(row.size() == 20);
          for (std::size_t k = 1; k < row.size(); ++k) CHECK(row[k] > row[k - 1]);
          CHECK(row.back() < 40);
        }
      };
      lawful(good);
      lawful(ahakv<>{.budget = slots(20), .window = 8});
      lawful(knorm{.budget = slots(20)});
      lawful(keydiff{.budget = slots(20)});
      lawful(h2o{.budget = slots(20)});
      lawful(nacl{.budget = slots(20), .window = 8});
    }
}

TEST_CASE("select and score_rows: scores and pools") {
  using enum status_code;
  const std::vector<float> scores(20, 1.0F);
  std::vector<offset_t> offsets{0, 10, 20};
  std::vector<index_t> slots(20);
  std::vector<offset_t> kept(3);
  host::scratch memory(1 << 20);
  const auto run = [&](const auto& policy, const row_scores& in) {
    return select(cpu{}, policy, in, selection{slots, kept}, memory.get());
  };
  const knorm policy{.budget = kvevict::slots(5)};
  const cache_shape two{1, 1, 2};
  CHECK(run(policy, {two, {scores.data(), offsets.data(), 2}}).ok());
  check_refused(run(policy, {two, {nullptr, offsets.data(), 2}}), bad_pointer, "scores");
  check_refused(run(policy, {two, {scores.data(), nullptr, 2}}), bad_pointer, "scores");
  check_refused(run(policy, {two, {scores.data(), offsets.data(), 3}}), bad_shape, "scores");
  check_refused(run(policy, {{1, 1, 0}, {scores.data(), offsets.data(), 2}}), bad_shape, "kv_heads");
  const std::vector<offset_t> falling{0, 10, 5}, empty{0, 10, 10}, far{std::numeric_limits<offset_t>::min(), 10, 20};
  check_refused(run(policy, {two, {scores.data(), far.data(), 2}}), bad_shape, "scores");
  check_refused(run(policy, {two, {scores.data(), falling.data(), 2}}), bad_shape, "scores");
  check_refused(run(policy, {two, {scores.data(), empty.data(), 2}}), bad_shape, "scores");
  const index_t pools[] = {0, 2}, negative[] = {-1, 0};
  check_refused(run(adakv{policy}, {two, {scores.data(), offsets.data(), 2}, {pools, 2}}), bad_shape, "budget_pools");
  check_refused(run(adakv{policy}, {two, {scores.data(), offsets.data(), 2}, {negative, 2}}), bad_shape,
                "budget_pools");
  check_refused(run(adakv{policy}, {two, {scores.data(), offsets.data(), 2}, {pools, 0}}), bad_shape, "budget_pools");

  const problem p(2, 2, 40, 8, 4, 40);
  std::vector<float> out(80, -7.0F);
  std::vector<offset_t> places{0, 40, 80}, wrong{0, 39, 80};
  const auto score = [&](const ragged<float>& to, offset_t room = 1 << 20) {
    return score_rows(cpu{}, good, p.in(), to, workspace{memory.get().data, room});
  };
  CHECK(score({out.data(), places.data(), 2}).ok());
  check_refused(score({nullptr, places.data(), 2}), bad_pointer, "scores");
  check_refused(score({out.data(), wrong.data(), 2}), bad_shape, "scores");
  check_refused(score({out.data(), places.data(), 1}), bad_shape, "scores");
  check_refused(score({out.data(), places.data(), 2}, 64), small_workspace, "workspace");
}

TEST_CASE("layer mean refuses heads of different length") {
  const problem p(2, 1, 40, 8, 4, 40);
  const std::vector<index_t> lengths{40, 39};
  const cache view{cache_shape{1, 1, 2}, lengths.data(), entries{p.keys.data(), hnd(1, 2, 40, 8), index_t{8}},
                   entries{p.values.data(), hnd(1, 2, 40, 4), index_t{4}}};
  const inputs in{view, query_view{entries{p.queries.data(), hnd(1, 2, 40, 8), index_t{8}}, index_t{2}, index_t{1}}};
  check_refused(host::evict(tova{.budget = slots(20)}, in).status, status_code::bad_shape, "length");
}

TEST_CASE("positions are positions, whatever a policy makes of them") {
  using enum status_code;
  const problem p(1, 1, 4, 8, 4, 4);
  const auto with = [&](const auto& policy, const std::vector<index_t>& positions, const index_t* seen = nullptr) {
    const position_view view{positions.data(), strided{.slot = 1}, seen};
    return host::evict(policy, inputs{p.cache(), p.query_rows(), view}).status;
  };
  const auto check_policy = [&](const auto& policy) {
    CHECK(with(policy, {0, 4, 5, 9}).ok());
    for (const std::vector<index_t>& bad : {std::vector<index_t>{0, 4, 4, 9}, {0, 5, 4, 9}, {-1, 4, 5, 9}})
      check_refused(with(policy, bad), bad_input, "positions");
    const index_t most = std::numeric_limits<index_t>::max(), seen = 9, least = std::numeric_limits<index_t>::min();
    check_refused(with(policy, {0, 4, 5, most}), bad_input, "positions");  // its tokens could not be counted
    check_refused(with(policy, {0, 4, 5, 9}, &seen), bad_input, "positions");
    check_refused(with(policy, {0, 4, 5, 9}, &least), bad_input, "positions");
  };
  check_policy(streaming_llm{.budget = slots(2), .sinks = 1});
  check_policy(kvevict::random{.budget = slots(2)});
  check_policy(knorm{.budget = slots(2)});
  check_policy(tova{.budget = slots(2)});
  check_policy(nacl{.budget = slots(2), .window = 1});
}

TEST_CASE("shares that are no numbers") {
  for (const double p : {std::nan(""), -1e300, -1e9, -1.0}) CHECK(percent(p).negative());
  for (const double p : {1e9, 1e300, double(INFINITY)}) CHECK(percent(p) == percent(214700));
  check_refused(evict_call{}.run(knorm{.budget = percent(std::nan(""))}), status_code::bad_budget, "budget");
}

TEST_CASE("extents that cannot be counted need nothing, and the call says what is wrong") {
  using enum status_code;
  const std::vector<float> memory(64);
  std::vector<index_t> kept(8);
  std::vector<offset_t> offsets(2);
  const index_t lowest = std::numeric_limits<index_t>::min(), most = std::numeric_limits<index_t>::max();
  const auto refused = [&](const cache_shape& shape, index_t length, index_t dims, const char* argument) {
    const entries e{memory.data(), strided{}, dims};
    const inputs in{cache{shape, length, e, e}, query_view{e, 2, index_t{4}}};
    const auto with = [&](const auto& policy) {
      CHECK(selection_capacity(policy, in) == 0);
      CHECK(workspace_bytes(cpu{}, policy, in) == 0);
      check_refused(evict(cpu{}, policy, in, selection{kept, offsets}, workspace{}), bad_shape, argument);
    };
    with(snapkv<>{.budget = slots(3), .window = 2, .pool_width = 1});
    with(adakv{knorm{.budget = slots(2)}});
  };
  refused({70000, 70000, 1}, 4, 4, "shape");
  refused({-2, 1, -1}, 4, 4, "layers");
  refused({1, 1, 1}, lowest, 4, "length");
  refused({1, 1, 1}, most, 4, "length");
  refused({1, 1, 1}, 4, lowest, "keys");
  refused({1, 1, 1}, 4, most, "keys");
}

TEST_CASE("measuring a workspace for inputs that evict will refuse") {
  const std::vector<float> memory(64);
  const entries e{memory.data(), hnd(1, 1, 4, 4), 4};
  for (const cache_shape shape : {cache_shape{0, 1, 1}, cache_shape{1, 1, 0}, cache_shape{-1, 1, 1}, cache_shape{}})
    for (const index_t length : {-3, 0, 4})
      for (const index_t query_heads : {-1, 0, 1, 3}) {
        const inputs in{cache{shape, length, e, e}, query_view{e, query_heads, index_t{4}}};
        const auto measured = [&](const auto& policy) {
          static_cast<void>(selection_capacity(policy, in));
          host::scratch room(std::max<offset_t>(0, workspace_bytes(cpu{}, policy, in)));
          std::vector<index_t> kept(8);
          std::vector<offset_t> offsets(2);
          return evict(cpu{}, policy, in, selection{kept, offsets}, room.get());
        };
        const bool usable = shape == cache_shape{} && length > 0 && query_heads > 0;
        CHECK(measured(snapkv<>{.budget = slots(3), .window = 2, .pool_width = 1}).ok() == usable);
        CHECK(measured(adakv{tova{.budget = slots(2)}}).ok() == usable);
      }
}
