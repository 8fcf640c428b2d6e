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
#include <string_view>

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

namespace {

float as(float x, float) { return x; }
bfloat16 as(float x, bfloat16) { return to_bfloat16(x); }
half as(float x, half) { return to_half(x); }

template <class Element>
on_device::cache_rows<Element> random_cache(const cache_shape& shape, index_t most, index_t dims, std::uint32_t seed) {
  on_device::cache_rows<Element> c{shape, most, dims, 4, {}, {}, {}, {}, {}};
  std::mt19937 chance(seed);
  std::normal_distribution<float> normal;
  for (index_t s = 0; s < shape.layers * shape.seqs; ++s) {
    const index_t length = most - static_cast<index_t>(chance() % static_cast<std::uint32_t>(most / 2));
    c.query_rows.push_back(length);
    c.lengths.insert(c.lengths.end(), static_cast<std::size_t>(shape.kv_heads), length);
  }
  const auto fill = [&](std::vector<Element>& numbers, index_t heads) {
    numbers.resize(static_cast<std::size_t>(shape.layers * shape.seqs * heads * most * dims));
    for (Element& x : numbers) x = as(normal(chance), Element{});
  };
  fill(c.keys, shape.kv_heads);
  fill(c.values, shape.kv_heads);
  fill(c.queries, shape.kv_heads * c.group);
  return c;
}

/// Scores close to the CPU's, and by these scores exactly the CPU's selection.
template <class Policy, class Element>
void check_evict(const Policy& policy, const on_device::cache_rows<Element>& c) {
  const auto got = on_device::evict(policy, c);
  const auto rows = static_cast<index_t>(c.shape.rows());
  const strided order = hnd(c.shape.seqs, c.shape.kv_heads, c.most, c.dims);
  const strided query_order = hnd(c.shape.seqs, c.shape.kv_heads * c.group, c.most, c.dims);
  const cache view{c.shape, row_lengths(c.lengths.data()), entries{c.keys.data(), order, c.dims},
                   entries{c.values.data(), order, c.dims}};
  const inputs in{view, query_view{entries{c.queries.data(), query_order, c.dims}, c.shape.kv_heads * c.group,
                                   row_lengths(c.query_rows.data())}};
  std::vector<offset_t> offsets{0};
  for (const index_t length : c.lengths) offsets.push_back(offsets.back() + length);
  std::vector<float> scores(static_cast<std::size_t>(offsets.back()));
  std::vector<cache_line> scratch(cache_lines(workspace_bytes(cpu{}, policy, in)));
  REQUIRE(score_rows(cpu{}, policy, in, {scores.data(), offsets.data(), rows}, workspace_of(scratch)).ok());
  REQUIRE(got.scores.size() == scores.size());
  for (index_t r = 0; r < rows; ++r) {
    float largest = 0;
    for (offset_t i = offsets[static_cast<std::size_t>(r)]; i < offsets[static_cast<std::size_t>(r) + 1]; ++i)
      largest = std::max(largest, std::abs(scores[static_cast<std::size_t>(i)]));
    for (offset_t i = offsets[static_cast<std::size_t>(r)]; i < offsets[static_cast<std::size_t>(r) + 1]; ++i)
      REQUIRE(std::abs(got.scores[static_cast<std::size_t>(i)] - scores[static_cast<std::size_t>(i)]) <=
              1e-5F * largest);
  }
  const kept_slots expected = on_host(policy, scored_rows{c.shape, offsets, got.scores});
  REQUIRE(got.offsets == expected.offsets);
  REQUIRE(got.slots == expected.slots);
}

}  // namespace

TEST_CASE("on the device: scores are the CPU's within bounds, and evictions select by them") {
  for (std::uint32_t seed = 0; seed < 3; ++seed) {
    const cache_shape shape{.layers = 2, .seqs = 2, .kv_heads = 2};
    CAPTURE(seed);
    check_evict(snapkv<>{.budget = percent(40), .recent = 0}, random_cache<bfloat16>(shape, 1500, 128, seed));
    check_evict(adakv{ahakv<>{.budget = percent(40)}}, random_cache<bfloat16>(shape, 700, 64, seed));
    check_evict(h2o{.budget = percent(40)}, random_cache<half>(shape, 300, 80, seed));
    check_evict(tova{.budget = percent(40)}, random_cache<float>(shape, 500, 48, seed));
    check_evict(keydiff{.budget = percent(40)}, random_cache<float>(shape, 500, 48, seed));
  }
}

namespace {

on_device::decode_life random_life(index_t count, index_t dims, index_t capacity, index_t every, std::uint32_t seed) {
  on_device::decode_life life{.shape = {.layers = 2, .seqs = 1, .kv_heads = 4},
                              .group = 2,
                              .count = count,
                              .dims = dims,
                              .capacity = capacity,
                              .every = every,
                              .keys = {},
                              .values = {},
                              .queries = {}};
  std::mt19937 chance(seed);
  std::normal_distribution<float> normal;
  const auto fill = [&](std::vector<bfloat16>& numbers, offset_t heads) {
    for (offset_t i = 0; i < heads * count * dims; ++i) numbers.push_back(to_bfloat16(normal(chance)));
  };
  fill(life.keys, life.shape.rows());
  fill(life.values, life.shape.rows());
  fill(life.queries, life.shape.rows() * life.group);
  return life;
}

/// The same life on the CPU: after every step the positions that each row holds are those of the device's state.
template <class Policy>
void check_decode(const Policy& policy, const on_device::decode_life& life) {
  CAPTURE(Policy::name);
  const auto got = on_device::decode(policy, life);
  REQUIRE(got.states.size() == static_cast<std::size_t>(life.count));
  const cache_shape shape = life.shape;
  const index_t query_heads = shape.kv_heads * life.group;
  const sequence_extent extent{
      .shape = shape, .capacity = life.capacity, .query_heads = query_heads, .head_dim = life.dims};
  std::vector<cache_line> memory(cache_lines(state_bytes(policy, extent)));
  const decode_state state{workspace_of(memory)};
  REQUIRE(start(policy, extent, state).ok());
  std::vector<index_t> lengths(static_cast<std::size_t>(shape.rows()), 0);
  std::vector<bfloat16> keys(lengths.size() * static_cast<std::size_t>(life.capacity * life.dims)), values(keys.size());
  const strided room = hnd(1, shape.kv_heads, life.capacity, life.dims);
  const strided all = hnd(1, shape.kv_heads, life.count, life.dims);
  const cache view{shape, lengths.data(), entries{keys.data(), room, life.dims},
                   entries{values.data(), room, life.dims}};
  for (index_t t = 0; t < life.count; ++t) {
    CAPTURE(t);
    const offset_t from = static_cast<offset_t>(t) * life.dims;
    const cache added{shape, index_t{1}, entries{life.keys.data() + from, all, life.dims},
                      entries{life.values.data() + from, all, life.dims}};
    REQUIRE(append(cpu{}, added, view, lengths).ok());
    const entries rows{life.queries.data() + from, hnd(1, query_heads, life.count, life.dims), life.dims};
    const inputs in{view, query_view{rows, query_heads, index_t{1}}};
    std::vector<cache_line> scratch(cache_lines(workspace_bytes(cpu{}, policy, state, in)));
    REQUIRE(observe(cpu{}, policy, state, in, workspace_of(scratch)).ok());
    offset_t above = 0;  // rows grow alike, so all are full at once
    for (const index_t n : lengths) above += n - policy.rule().nominal(shape, {shape.row(0), n, 0});
    if (above >= life.every * shape.rows()) {
      std::vector<index_t> slots(static_cast<std::size_t>(selection_capacity(policy, state, in)));
      std::vector<offset_t> offsets(lengths.size() + 1);
      const selection kept{slots, offsets};
      REQUIRE(evict(cpu{}, policy, state, in, kept, workspace_of(scratch)).ok());
      REQUIRE(compact_in_place(cpu{}, view, kept, side(state)).ok());
      retained_lengths(kept, lengths.data());
    }
    std::vector<cache_line> copy = got.states[static_cast<std::size_t>(t)];
    const decode_state there{workspace_of(copy)};
    REQUIRE(there.check().ok());
    REQUIRE(there.seen() == t + 1);
    for (index_t r = 0; r < shape.rows(); ++r) {
      const auto a = state.positions(shape.row(r)), b = there.positions(shape.row(r));
      REQUIRE(std::equal(a.begin(), a.end(), b.begin(), b.end()));
    }
  }
  for (index_t r = 0; r < shape.rows(); ++r)
    for (offset_t i = 0; i < lengths[static_cast<std::size_t>(r)] * life.dims; ++i) {
      const auto at = static_cast<std::size_t>(r * life.capacity * life.dims + i);
      REQUIRE(got.keys[at].bits == keys[at].bits);
    }
}

}  // namespace

TEST_CASE("on the device: a captured step decodes a whole sequence and keeps the CPU's slots") {
  for (const index_t every : {1, 16}) {
    const index_t count = 100 + 10 * every;
    check_decode(streaming_llm{.budget = slots(40)}, random_life(count, 64, 64, every, 1));
    check_decode(h2o{.budget = slots(40)}, random_life(count, 128, 64, every, 2));
    check_decode(tova{.budget = slots(40)}, random_life(count, 48, 64, every, 3));
    check_decode(snapkv<>{.budget = slots(40), .window = 8}, random_life(count, 64, 64, every, 4));
    check_decode(adakv{ahakv<>{.budget = slots(40), .window = 8}}, random_life(count, 64, 256, every, 5));
  }
}

TEST_CASE("refused: what the host knows to be wrong, before anything reaches the device") {
  const cache_shape shape{.kv_heads = 2};
  float score = 0;
  index_t slot = 0, pool = 0;
  offset_t offset = 0;
  const row_scores good{shape, {&score, &offset, 2}};
  std::vector<cache_line> lines(cache_lines(on_device::needed_workspace(good)) + 1);
  const workspace memory = workspace_of(lines);
  const selection out{{&slot, 1}, {&offset, 3}};
  const auto refused = [](const status& s, status_code code, std::string_view argument) {
    CHECK(s.code == code);
    CHECK(s.argument == argument);
  };
  const auto with = [&](auto change) {
    row_scores in = good;
    change(in);
    return on_device::one_call(in, out, memory);
  };
  refused(with([](row_scores& in) { in.scores.data = nullptr; }), status_code::bad_pointer, "scores");
  refused(with([](row_scores& in) { in.scores.offsets = nullptr; }), status_code::bad_pointer, "scores");
  refused(with([](row_scores& in) { in.scores.rows = 3; }), status_code::bad_shape, "scores");
  refused(with([](row_scores& in) { in.shape.layers = 0; }), status_code::bad_shape, "layers");
  refused(with([&](row_scores& in) { in.pools = {&pool, 0}; }), status_code::bad_shape, "budget_pools");
  refused(with([&](row_scores& in) { in.pools = {&pool, 3}; }), status_code::bad_shape, "budget_pools");
  const auto to = [&](const selection& where) { return on_device::one_call(good, where, memory); };
  refused(to({{&slot, 1}, {nullptr, 3}}), status_code::bad_pointer, "offsets");
  refused(to({{&slot, 1}, {&offset, 2}}), status_code::small_output, "offsets");
  refused(to({{nullptr, 1}, {&offset, 3}}), status_code::bad_pointer, "slots");
  row_receipt receipt{};
  refused(to({{&slot, 1}, {&offset, 3}, {&receipt, 1}}), status_code::small_output, "receipts");
  refused(on_device::one_call(good, out, {}), status_code::small_workspace, "workspace");
  refused(on_device::one_call(good, out, {memory.data + 1, memory.count - 1}), status_code::small_workspace,
          "workspace");
  std::vector<cache_line> states(64);
  index_t lengths[2] = {};
  const auto evicted = [&](const workspace& bytes, const workspace& scratch, index_t* rows, index_t every) {
    return on_device::one_eviction(bytes, scratch, rows, every);
  };
  const workspace room = workspace_of(states);
  refused(evicted({}, memory, lengths, 1), status_code::bad_pointer, "states");
  refused(evicted({room.data, 64}, memory, lengths, 1), status_code::small_output, "states");
  refused(evicted({room.data + 4, room.count - 4}, memory, lengths, 1), status_code::small_output, "states");
  refused(evicted(room, memory, nullptr, 1), status_code::bad_pointer, "lengths");
  refused(evicted(room, memory, lengths, 0), status_code::bad_option, "every");
  refused(evicted(room, {}, lengths, 1), status_code::small_workspace, "workspace");
  if (!on_device::found()) refused(on_device::one_call(good, out, memory), status_code::device_error, "stream");
}

/// Where there is no device, only what needs none is run; what is not, is said.
int main(int argc, char** argv) {
  doctest::Context context(argc, argv);
  if (on_device::found()) return context.run();
  context.addFilter("test-case", "refused:*");
  if (const int failed = context.run(); failed != 0) return failed;
  std::puts(
      "skipped: no CUDA device; not run: a selection is the CPU's, also captured, also after 100 runs; scores are the "
      "CPU's within bounds, and evictions select by them; a captured step decodes a whole sequence and keeps the CPU's "
      "slots; keys turn while they move and where they lie, and blocks are freed as on the CPU");
  return 77;
}
