// SPDX-License-Identifier: MIT
#include "on_device_decode.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <kvevict/cpu.hpp>
#include <random>
#include <string_view>

using namespace kvevict;

namespace {

/// Draws keys, values and queries.
void fill(on_device::decode_life& life, std::uint32_t seed) {
  std::mt19937 chance(seed);
  std::normal_distribution<float> normal;
  const auto draw = [&](std::vector<bfloat16>& numbers, offset_t heads) {
    numbers.clear();
    for (offset_t i = 0; i < heads * life.count * life.dims; ++i) numbers.push_back(to_bfloat16(normal(chance)));
  };
  draw(life.keys, life.shape.rows());
  draw(life.values, life.shape.rows());
  draw(life.queries, life.shape.rows() * life.group);
}

/// What the rows of a life hold on the CPU.
template <class E>
struct lived {
  std::vector<std::vector<index_t>> positions;  ///< after every step, row after row
  std::vector<index_t> lengths;                 ///< at the end
  std::vector<E> keys;                          ///< at the end
};

/// `keys`, `values` and `queries`: those of the life.
template <class E, class Policy>
lived<E> live(const Policy& policy, const on_device::decode_life& life, const std::vector<E>& keys,
              const std::vector<E>& values, const std::vector<E>& queries) {
  const cache_shape shape = life.shape;
  const index_t query_heads = shape.kv_heads * life.group;
  const sequence_extent extent{
      .shape = shape, .capacity = life.capacity, .query_heads = query_heads, .head_dim = life.dims};
  std::vector<cache_line> memory(cache_lines(state_bytes(policy, extent)));
  const decode_state state{workspace_of(memory)};
  REQUIRE(start(policy, extent, state).ok());
  lived<E> held;
  held.lengths.assign(std::size_t(shape.rows()), 0);
  held.keys.resize(held.lengths.size() * std::size_t(life.capacity * life.dims));
  std::vector<E> held_values(held.keys.size());
  const strided room = hnd(1, shape.kv_heads, life.capacity, life.dims);
  const strided all = hnd(1, shape.kv_heads, life.count, life.dims);
  const cache view{shape, held.lengths.data(), entries{held.keys.data(), room, life.dims},
                   entries{held_values.data(), room, life.dims}};
  for (index_t t = 0; t < life.count; ++t) {
    const offset_t from = offset_t(t) * life.dims;
    const cache added{shape, index_t{1}, entries{keys.data() + from, all, life.dims},
                      entries{values.data() + from, all, life.dims}};
    REQUIRE(append(cpu{}, added, view, held.lengths).ok());
    const entries rows{queries.data() + from, hnd(1, query_heads, life.count, life.dims), life.dims};
    const inputs in{view, query_view{rows, query_heads, index_t{1}}};
    std::vector<cache_line> scratch(cache_lines(workspace_bytes(cpu{}, policy, state, in)));
    REQUIRE(observe(cpu{}, policy, state, in, workspace_of(scratch)).ok());
    offset_t above = 0;  // rows grow alike, so all are full at once
    for (const index_t n : held.lengths) above += n - policy.rule().nominal(shape, {shape.row(0), n, 0});
    if (above >= life.every * shape.rows()) {
      std::vector<index_t> slots(std::size_t(selection_capacity(policy, state, in)));
      std::vector<offset_t> offsets(held.lengths.size() + 1);
      const selection kept{slots, offsets};
      REQUIRE(evict(cpu{}, policy, state, in, kept, workspace_of(scratch)).ok());
      REQUIRE(compact_in_place(cpu{}, view, kept, side(state)).ok());
      retained_lengths(kept, held.lengths.data());
    }
    held.positions.emplace_back();
    for (index_t r = 0; r < shape.rows(); ++r) {
      const auto of_row = state.positions(shape.row(r));
      held.positions.back().insert(held.positions.back().end(), of_row.begin(), of_row.end());
    }
  }
  return held;
}

/// As floats, each off by up to a share of itself.
std::vector<float> nudged(const std::vector<bfloat16>& numbers, float share, std::uint32_t seed) {
  std::mt19937 chance(seed);
  std::uniform_real_distribution<float> by(-share, share);
  std::vector<float> out;
  for (const bfloat16 x : numbers) out.push_back(to_float(x) * (1 + by(chance)));
  return out;
}

/// After every step the positions that each row holds are those of the CPU. The device's scores differ from the CPU's
/// in their last bits, so the life is one in which nothing hangs on those: with keys that are a little off it is the
/// same.
template <class Policy>
void check_decode(const Policy& policy, on_device::decode_life life, std::uint32_t seed) {
  CAPTURE(Policy::name);
  const auto expected = [&] {
    for (;; ++seed) {
      fill(life, seed);
      const auto exact = live(policy, life, life.keys, life.values, life.queries);
      const auto near =
          live(policy, life, nudged(life.keys, 1e-5F, seed), nudged(life.values, 0, 0), nudged(life.queries, 0, 0));
      if (near.positions == exact.positions) return exact;
    }
  }();
  const auto got = on_device::decode(policy, life);
  REQUIRE(got.states.size() == std::size_t(life.count));
  for (index_t t = 0; t < life.count; ++t) {
    CAPTURE(t);
    std::vector<cache_line> copy = got.states[std::size_t(t)];
    const decode_state there{workspace_of(copy)};
    REQUIRE(there.check().ok());
    REQUIRE(there.seen() == t + 1);
    std::vector<index_t> positions;
    for (index_t r = 0; r < life.shape.rows(); ++r) {
      const auto of_row = there.positions(life.shape.row(r));
      positions.insert(positions.end(), of_row.begin(), of_row.end());
    }
    REQUIRE(positions == expected.positions[std::size_t(t)]);
  }
  for (index_t r = 0; r < life.shape.rows(); ++r)
    for (offset_t i = 0; i < expected.lengths[std::size_t(r)] * life.dims; ++i) {
      const auto at = std::size_t(r * life.capacity * life.dims + i);
      REQUIRE(got.keys[at].bits == expected.keys[at].bits);
    }
}

}  // namespace

TEST_CASE("on the device: a captured step decodes a whole sequence and keeps the CPU's slots") {
  for (const index_t every : {1, 16})
    for (const bool in_one : {false, true}) {
      CAPTURE(in_one);
      const auto life = [&](index_t dims, index_t capacity) {
        on_device::decode_life l;
        l.shape = {.layers = 2, .seqs = 1, .kv_heads = 4};
        l.group = 2;
        l.count = 100 + 10 * every;
        l.dims = dims;
        l.capacity = capacity;
        l.every = every;
        l.in_one = in_one;
        return l;
      };
      check_decode(streaming_llm{.budget = slots(40)}, life(64, 64), 1);
      check_decode(h2o{.budget = slots(40)}, life(128, 64), 100);
      check_decode(tova{.budget = slots(40)}, life(48, 64), 200);
      check_decode(snapkv<>{.budget = slots(40), .window = 8}, life(64, 64), 300);
      check_decode(adakv{ahakv<>{.budget = slots(40), .window = 8}}, life(64, 256), 400);
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
