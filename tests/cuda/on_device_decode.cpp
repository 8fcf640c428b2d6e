// SPDX-License-Identifier: MIT
#include "on_device_decode.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <kvevict/cpu.hpp>
#include <random>
#include <string_view>

using namespace kvevict;

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
  for (const index_t every : {1, 16})
    for (const bool in_one : {false, true}) {
      CAPTURE(in_one);
      const auto life = [&](index_t dims, index_t capacity, std::uint32_t seed) {
        on_device::decode_life l = random_life(100 + 10 * every, dims, capacity, every, seed);
        l.in_one = in_one;
        return l;
      };
      check_decode(streaming_llm{.budget = slots(40)}, life(64, 64, 1));
      check_decode(h2o{.budget = slots(40)}, life(128, 64, 2));
      check_decode(tova{.budget = slots(40)}, life(48, 64, 3));
      check_decode(snapkv<>{.budget = slots(40), .window = 8}, life(64, 64, 4));
      check_decode(adakv{ahakv<>{.budget = slots(40), .window = 8}}, life(64, 256, 5));
    }
}

TEST_CASE("refused: evictions in place that the host knows to be wrong") {
  const auto refused = [](const status& s, status_code code, std::string_view argument) {
    CHECK(s.code == code);
    CHECK(s.argument == argument);
  };
  std::vector<cache_line> lines(64);
  const workspace memory = workspace_of(lines);
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
}
