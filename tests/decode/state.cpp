// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include <string>

#include "../support/oracle.hpp"
#include "../support/sequence.hpp"

using namespace kvevict;
using host::compaction;
using host::sequence;
using host::tokens;

namespace {

constexpr index_t prompt = 70, steps = 40;
const tokens from(2, 2, 2, 160, 8, 4, 3);

/// Every policy, with what its definition promises for a prompt that comes in pieces.
enum class pieces {
  same_bits,  ///< reads only the last rows, or none
  same_sums   ///< sums over all rows: the order of additions follows the pieces
};
template <class F>
void for_each_policy(const F& f) {
  const amount b = slots(30);
  f(full{}, pieces::same_bits);
  f(kvevict::random{.budget = b, .seed = 3, .recent = 2}, pieces::same_bits);
  f(streaming_llm{.budget = b}, pieces::same_bits);
  f(accumulated_attention{.budget = b, .sinks = 2}, pieces::same_sums);
  f(h2o{.budget = b}, pieces::same_sums);
  f(tova{.budget = b}, pieces::same_bits);
  f(snapkv<>{.budget = b, .window = 8}, pieces::same_bits);
  f(pyramidkv<>{.budget = b, .window = 4, .beta = 3}, pieces::same_bits);
  f(nacl{.budget = b, .window = 8}, pieces::same_bits);
  f(ahakv<>{.budget = b, .window = 8}, pieces::same_bits);
  f(ahakv<score::step_gain, every_row>{.budget = b, .window = 8}, pieces::same_sums);
  f(knorm{.budget = b}, pieces::same_bits);
  f(keydiff{.budget = b, .recent = 3}, pieces::same_bits);
  f(adakv{decayed_keydiff{.budget = b, .window = 8, .decay = 5}}, pieces::same_bits);
  f(adakv{ahakv<>{.budget = b, .window = 8}}, pieces::same_bits);
  f(adakv{h2o{.budget = b}}, pieces::same_sums);
}

template <class Policy>
std::vector<std::vector<float>> scores_of(sequence<Policy>& s) {
  const auto view = s.cache();
  std::vector<offset_t> offsets{0};
  for (index_t r = 0; r < view.shape().rows(); ++r) offsets.push_back(offsets.back() + s.length(r));
  std::vector<std::vector<float>> out;
  host::kept chosen = s.select();
  REQUIRE(chosen.status.ok());
  for (const row_receipt& r : chosen.receipts) out.push_back({r.threshold, r.score_share});
  return out;
}
bool same_floats(const std::vector<std::vector<float>>& a, const std::vector<std::vector<float>>& b) {
  for (std::size_t i = 0; i < a.size(); ++i)
    if (std::memcmp(a[i].data(), b[i].data(), a[i].size() * sizeof(float)) != 0) return false;
  return a.size() == b.size();
}

}  // namespace

TEST_CASE("a prompt in pieces of any size gives what one call gives") {
  for_each_policy([&](const auto& policy, pieces promise) {
    CAPTURE(std::remove_cvref_t<decltype(policy)>::name);
    sequence whole(from, policy, 160, prompt);
    whole.feed(prompt);
    const auto expected = whole.select().rows();
    const auto thresholds = scores_of(whole);
    for (const index_t piece : {1, 3, 8, 31, 69}) {
      CAPTURE(piece);
      sequence parts(from, policy, 160, prompt);
      for (index_t t = 0; t < prompt; t += piece) parts.feed(std::min(piece, prompt - t));
      CHECK(parts.select().rows() == expected);
      const auto got = scores_of(parts);
      if (promise == pieces::same_bits)
        CHECK(same_floats(got, thresholds));
      else
        for (std::size_t r = 0; r < got.size(); ++r)
          if (!std::isnan(thresholds[r][0])) CHECK(got[r][0] == doctest::Approx(thresholds[r][0]).epsilon(1e-5));
    }
  });
}

TEST_CASE("one call over a prompt equals the call without a state") {
  for_each_policy([&](const auto& policy, pieces) {
    CAPTURE(std::remove_cvref_t<decltype(policy)>::name);
    sequence s(from, policy, prompt, prompt);
    s.feed(prompt);
    const inputs in{s.physical(),
                    query_view{entries{from.queries.data(), hnd(1, 4, from.count, from.dim), from.dim}, 4, prompt}};
    CHECK(host::evict(policy, in).rows() == s.select().rows());
  });
}

TEST_CASE("pieces that are evicted between: rows of a piece see what is cached, and no row outgrows its budget") {
  for_each_policy([&](const auto& policy, pieces) {
    CAPTURE(std::remove_cvref_t<decltype(policy)>::name);
    sequence s(from, policy, 160, prompt);
    sequence again(from, policy, 160, prompt);
    for (index_t t = 0; t < 120; t += 20) {
      for (auto* one : {&s, &again}) {
        one->feed(20);
        one->evict();
      }
      offset_t held = 0;
      for (index_t r = 0; r < 4; ++r) held += s.length(r);
      if constexpr (!std::is_same_v<std::remove_cvref_t<decltype(policy)>, full>) CHECK(held <= 4 * 30);
    }
    CHECK(s.positions() == again.positions());
    CHECK(s.seen() == s.state().seen());
  });
}

TEST_CASE("a batch whose sequences differ in length, join and leave equals each alone") {
  for_each_policy([&](const auto& policy, pieces) {
    using policy_type = std::remove_cvref_t<decltype(policy)>;
    CAPTURE(policy_type::name);
    // Three sequences with tokens of their own: alone, and through calls that cover those present.
    const tokens texts[] = {tokens(2, 2, 2, 160, 8, 4, 3), tokens(2, 2, 2, 160, 8, 4, 30),
                            tokens(2, 2, 2, 160, 8, 4, 77)};
    const index_t first[] = {0, 4, 9}, last[] = {30, 24, 30}, lengths_at_start[] = {50, 37, 64};
    std::vector<sequence<policy_type>> alone, batched;
    for (int i = 0; i < 3; ++i) {
      alone.emplace_back(texts[i], policy, 120, lengths_at_start[i], i);
      batched.emplace_back(texts[i], policy, 120, lengths_at_start[i], i);
    }
    for (index_t step = 0; step < 30; ++step) {
      std::vector<int> present;
      for (int i = 0; i < 3; ++i)
        if (step >= first[i] && step < last[i]) present.push_back(i);
      for (const int i : present) {
        const index_t n = step == first[i] ? lengths_at_start[i] : 1;
        alone[std::size_t(i)].feed(n);
        alone[std::size_t(i)].evict();
        batched[std::size_t(i)].feed(n);
      }
      // One eviction for all that are present: their caches side by side, their states in any place.
      const auto seqs = index_t(present.size());
      const cache_shape shape{2, seqs, 2};
      std::vector<decode_state<>> states;
      std::vector<index_t> lengths(std::size_t(shape.rows()));
      const index_t room = 120;
      std::vector<float> keys(std::size_t(shape.rows() * room * 8), NAN),
          values(std::size_t(shape.rows() * room * 4), NAN);
      const cache together{shape, lengths.data(), entries{keys.data(), hnd(seqs, 2, room, 8), 8},
                           entries{values.data(), hnd(seqs, 2, room, 4), 4}};
      for (index_t i = 0; i < seqs; ++i) {
        auto& one = batched[std::size_t(present[std::size_t(i)])];
        states.push_back(one.state());
        const auto view = one.cache();
        for (index_t r = 0; r < 4; ++r) {
          const row_id there = one.physical().shape().row(r);
          const index_t index = (there.layer * seqs + i) * 2 + there.kv_head;
          const row_id here = shape.row(index);
          lengths[std::size_t(index)] = one.length(r);
          for (index_t s = 0; s < one.length(r); ++s) {
            view.keys().load(there, s, together.keys().at(here, s, 0));
            view.values().load(there, s, together.values().at(here, s, 0));
          }
        }
      }
      const inputs in{together};
      host::kept got;
      got.slots.resize(std::size_t(selection_capacity(policy, states, in)));
      got.offsets.resize(lengths.size() + 1);
      host::scratch memory(workspace_bytes(cpu{}, policy, states, in));
      REQUIRE(evict(cpu{}, policy, states, in, got.view(), memory.get()).ok());
      for (index_t i = 0; i < seqs; ++i) {
        std::vector<index_t> slots_of;
        std::vector<offset_t> offsets{0};
        for (index_t layer = 0; layer < 2; ++layer)
          for (index_t h = 0; h < 2; ++h) {
            const auto row = got.view()[(layer * seqs + i) * 2 + h];
            slots_of.insert(slots_of.end(), row.begin(), row.end());
            offsets.push_back(offset_t(slots_of.size()));
          }
        const auto which = std::size_t(present[std::size_t(i)]);
        batched[which].compact({slots_of, offsets});
        REQUIRE(batched[which].positions() == alone[which].positions());
      }
    }
  });
}

TEST_CASE("a state that is saved and read back goes on identically") {
  for_each_policy([&](const auto& policy, pieces) {
    CAPTURE(std::remove_cvref_t<decltype(policy)>::name);
    sequence on(from, policy, 160, prompt), off(from, policy, 160, prompt);
    for (auto* s : {&on, &off}) {
      s->feed(prompt);
      s->evict();
    }
    for (index_t t = 0; t < steps; ++t) {
      on.feed(1);
      off.feed(1);
      if (t % 7 == 0) {
        on.evict();
        off.evict();
        const std::vector<cache_line> saved = off.memory();
        off.memory() = std::vector<cache_line>(saved.size() + 3);  // elsewhere
        off.memory().assign(saved.begin(), saved.end());
      }
    }
    CHECK(on.positions() == off.positions());
    CHECK(std::memcmp(on.memory().data(), off.memory().data(), on.memory().size() * 64) == 0);
    CHECK(on.select().rows() == off.select().rows());
  });
}

TEST_CASE("swapping slots changes no selection: token order decides") {
  for_each_policy([&](const auto& policy, pieces) {
    CAPTURE(std::remove_cvref_t<decltype(policy)>::name);
    sequence<std::remove_cvref_t<decltype(policy)>> stable(from, policy, 160, prompt),
        swapped(from, policy, 160, prompt, 0, compaction::swapped);
    for (index_t t = 0; t <= steps; ++t) {
      stable.feed(t == 0 ? prompt : 1);
      swapped.feed(t == 0 ? prompt : 1);
      if (t % 3 == 0) {
        stable.evict();
        swapped.evict();
      }
      REQUIRE(stable.positions() == swapped.positions());
    }
    // The same keys, seen in token order.
    const auto a = stable.cache(), b = swapped.cache();
    for (index_t r = 0; r < 4; ++r)
      for (index_t s = 0; s < stable.length(r); ++s)
        for (index_t d = 0; d < from.dim; ++d)
          REQUIRE(a.keys()(a.shape().row(r), s, d) == b.keys()(b.shape().row(r), s, d));
  });
}

TEST_CASE("the budget may change from call to call, the cache may shrink below the window") {
  sequence s(from, snapkv<>{.budget = slots(30), .window = 8, .recent = 1}, 160, prompt);
  s.feed(prompt);
  s.evict();
  for (const index_t b : {20, 3, 1, 25, 2}) {
    s.policy().budget = slots(b);
    s.feed(2);
    const index_t before = s.length(0);
    s.evict();
    CHECK(s.length(0) == std::min(before, b));
    CHECK(s.positions()[0].back() == s.seen() - 1);
  }
}

TEST_CASE("shares of a budget refer to the prompt") {
  sequence s(from, knorm{.budget = percent(50)}, 160, prompt);
  s.feed(prompt);
  s.evict();
  CHECK(s.length(0) == prompt / 2);
  s.feed(5);
  s.evict();
  CHECK(s.length(0) == prompt / 2);
}

TEST_CASE("a policy that reads no rows is told of slots alone") {
  const knorm policy{.budget = slots(8)};
  const host::problem p(2, 1, 16, 8, 4, 1);
  const sequence_extent extent{.shape = {1, 1, 2}, .capacity = 32};
  std::vector<cache_line> memory(cache_lines(state_bytes(policy, extent)));
  const decode_state state{workspace_of(memory)};
  host::scratch room(1 << 20);
  REQUIRE(start(policy, extent, state).ok());
  REQUIRE(observe(cpu{}, policy, state, inputs{p.cache()}, room.get()).ok());
  CHECK(state.length({}) == 16);
}

TEST_CASE("states: queries of other dims are refused, and so are restored bytes whose lengths cannot be") {
  const snapkv<> policy{.budget = slots(8), .window = 4};
  const host::problem p(2, 2, 16, 8, 4, 16);
  host::scratch room(1 << 20);
  for (const index_t dims : {4, 16}) {
    const sequence_extent extent{.shape = {1, 1, 2}, .capacity = 32, .query_heads = 4, .head_dim = dims};
    std::vector<cache_line> memory(cache_lines(state_bytes(policy, extent)));
    const decode_state state{workspace_of(memory)};
    REQUIRE(start(policy, extent, state).ok());
    const auto fresh = memory;
    const status s = observe(cpu{}, policy, state, p.in(), room.get());
    CHECK(s.code == status_code::bad_shape);
    CHECK(std::string(s.argument) == "head_dim");
    CHECK(std::memcmp(memory.data(), fresh.data(), memory.size() * 64) == 0);
  }
  const sequence_extent extent{.shape = {1, 1, 2}, .capacity = 32, .query_heads = 4, .head_dim = 8};
  std::vector<cache_line> memory(cache_lines(state_bytes(policy, extent)));
  const decode_state state{workspace_of(memory)};
  REQUIRE(start(policy, extent, state).ok());
  REQUIRE(observe(cpu{}, policy, state, p.in(), room.get()).ok());
  REQUIRE(state.check().ok());
  for (const index_t length : {-100, 17, 33, 1000}) {  // 17: more than it has seen
    state.parts().lengths[1] = length;
    CHECK(state.check().code == status_code::bad_input);
    CHECK(observe(cpu{}, policy, state, p.in(), room.get()).code == status_code::bad_input);
  }
  // Extents that start refuses have no size.
  for (sequence_extent e : {sequence_extent{.shape = {-2, 1, 2}, .capacity = 32, .query_heads = 4, .head_dim = 8},
                            {.shape = {1, 1, 2}, .capacity = -1, .query_heads = 4, .head_dim = 8},
                            {.shape = {1, 1, 2}, .capacity = 32, .query_heads = 4, .head_dim = -8}})
    CHECK(state_bytes(policy, e) == 0);
}

TEST_CASE("a compaction refuses states of another cache, and such as have not seen its slots") {
  const h2o policy{.budget = slots(8)};
  const host::problem p(2, 2, 16, 8, 4, 16);
  std::vector<float> keys = p.keys, values = p.values;
  const cache view{cache_shape{1, 1, 2}, 16, entries{keys.data(), hnd(1, 2, 16, 8), 8},
                   entries{values.data(), hnd(1, 2, 16, 4), 4}};
  std::vector<index_t> slots_of{3, 5, 1, 2};
  std::vector<offset_t> offsets{0, 2, 4};
  const selection kept{slots_of, offsets};
  host::scratch room(1 << 20);
  const auto with_state = [&](const cache_shape& shape, index_t capacity, const auto& call) {
    const sequence_extent extent{.shape = shape, .capacity = capacity, .query_heads = 2 * shape.kv_heads};
    std::vector<cache_line> memory(cache_lines(state_bytes(policy, extent)));
    const decode_state state{workspace_of(memory)};
    REQUIRE(start(policy, extent, state).ok());
    const auto before = memory;
    const status s = call(state);
    CHECK(std::memcmp(memory.data(), before.data(), memory.size() * 64) == 0);
    CHECK(keys == p.keys);
    CHECK(values == p.values);
    return std::string(s.argument);
  };
  const auto compact = [&](const auto& state) { return compact_in_place(cpu{}, view, kept, side(state)); };
  CHECK(with_state({1, 1, 2}, 32, compact) == "length");  // has seen nothing
  CHECK(with_state({1, 1, 1}, 32, compact) == "states");
  CHECK(with_state({2, 1, 2}, 32, compact) == "states");
  CHECK(with_state({1, 1, 2}, 32, [&](const auto& state) {
          return compact(std::vector<decode_state<>>{state, state});
        }) == "states");
  std::vector<float> to(keys.size()), values_to(values.size());
  const cache other{cache_shape{1, 1, 2}, 16, entries{to.data(), hnd(1, 2, 16, 8), 8},
                    entries{values_to.data(), hnd(1, 2, 16, 4), 4}};
  CHECK(with_state({1, 1, 2}, 32, [&](const auto& state) { return gather(cpu{}, view, kept, other, side(state)); }) ==
        "length");
  std::vector<index_t> order(32);
  for (std::size_t i = 0; i < 32; ++i) order[i] = index_t(i % 16);
  CHECK(with_state({1, 1, 2}, 32, [&](const auto& state) {
          return swap_fill(cpu{}, view, token_order{order.data(), hnd(1, 2, 16, 1)}, kept, side(state));
        }) == "length");
}

TEST_CASE("bad states and bad calls are refused and nothing changes") {
  const h2o policy{.budget = slots(8)};
  const sequence_extent extent{
      .shape = {1, 1, 2}, .capacity = 32, .query_heads = 4, .head_dim = 8, .prompt_length = 16};
  std::vector<cache_line> memory(cache_lines(state_bytes(policy, extent)));
  const decode_state state{workspace_of(memory)};
  const auto expect = [](const status& s, status_code code, const char* argument) {
    CAPTURE(s.sentence);
    CHECK(s.code == code);
    CHECK(std::string(s.argument) == argument);
    CHECK(std::string(s.sentence).size() > 10);
  };
  const auto changed = [&](auto change) {
    sequence_extent e = extent;
    change(e);
    return start(policy, e, state);
  };
  expect(changed([](auto& e) { e.shape.layers = 0; }), status_code::bad_shape, "layers");
  expect(changed([](auto& e) { e.shape.kv_heads = -1; }), status_code::bad_shape, "kv_heads");
  expect(changed([](auto& e) { e.capacity = 0; }), status_code::bad_shape, "capacity");
  expect(changed([](auto& e) { e.query_heads = 3; }), status_code::bad_shape, "query_heads");
  expect(changed([](auto& e) { e.prompt_length = -1; }), status_code::bad_shape, "prompt_length");
  expect(changed([](auto& e) { e.shape.layers = e.shape.kv_heads = e.query_heads = e.capacity = 2147483647; }),
         status_code::bad_shape, "extent");
  expect(start(snapkv<>{}, sequence_extent{.shape = {1, 1, 2}, .capacity = 32, .query_heads = 4}, state),
         status_code::bad_shape, "head_dim");
  expect(start(policy, extent, decode_state{workspace{}}), status_code::bad_pointer, "state");
  expect(start(policy, extent, decode_state{workspace{workspace_of(memory).data, 64}}), status_code::small_output,
         "state");
  CHECK(start(policy, extent, decode_state{workspace{workspace_of(memory).data, 64}}).needed ==
        state_bytes(policy, extent));
  expect(start(policy, extent, decode_state{workspace{workspace_of(memory).data + 4, 1 << 20}}),
         status_code::small_output, "state");

  const host::problem p(2, 2, 16, 8, 4, 16);
  host::scratch room(1 << 20);
  const inputs in{p.cache(), p.query_rows()};
  std::memset(static_cast<void*>(memory.data()), 0x5a, memory.size() * 64);
  expect(observe(cpu{}, policy, state, in, room.get()), status_code::bad_input, "state");  // never started
  // What refused calls need is nothing; measuring reads no state that is not one.
  const std::vector<decode_state<>> none;
  for (const auto& bad : {std::vector<decode_state<>>{state}, none, {decode_state{workspace{}}}, {state, state}}) {
    CHECK(selection_capacity(policy, bad, in) == 0);
    CHECK(workspace_bytes(cpu{}, policy, bad, in) == 0);
  }
  REQUIRE(start(policy, extent, state).ok());
  CHECK(selection_capacity(policy, state, in) == 16);
  CHECK(workspace_bytes(cpu{}, policy, state, in) > 0);
  const auto fresh = memory;
  const auto refused = [&](const status& s, status_code code, const char* argument) {
    expect(s, code, argument);
    CHECK(std::memcmp(memory.data(), fresh.data(), memory.size() * 64) == 0);
  };
  refused(observe(cpu{}, policy, decode_state<row_feed::attention>{workspace_of(memory)},
                  inputs{p.cache(), attention_view{entries{p.keys.data(), hnd(1, 4, 16, 16), 16}, 4, 16}}, room.get()),
          status_code::bad_input, "state");
  refused(observe(cpu{}, snapkv<>{.budget = slots(8), .window = 4}, state, in, room.get()), status_code::bad_input,
          "states");
  refused(observe(cpu{}, policy, std::vector<decode_state<>>{state, state}, in, room.get()), status_code::bad_shape,
          "states");
  refused(observe(cpu{}, policy, state, in, workspace{}), status_code::small_workspace, "workspace");
  const host::problem few(2, 2, 16, 8, 4, 15), other_heads(2, 1, 16, 8, 4, 16), more_heads(4, 1, 16, 8, 4, 16),
      longer(2, 2, 40, 8, 4, 40);
  refused(observe(cpu{}, policy, state, few.in(), room.get()), status_code::bad_input, "queries");
  refused(observe(cpu{}, policy, state, other_heads.in(), room.get()), status_code::bad_shape, "query_heads");
  refused(observe(cpu{}, policy, state, more_heads.in(), room.get()), status_code::bad_shape, "states");
  refused(observe(cpu{}, policy, state, longer.in(), room.get()), status_code::small_output, "states");
  std::vector<index_t> slots_of(64, -7);
  std::vector<offset_t> offsets(3, -7);
  const selection kept{slots_of, offsets};
  refused(evict(cpu{}, policy, state, in, kept, room.get()), status_code::bad_shape, "length");
  REQUIRE(observe(cpu{}, policy, state, in, room.get()).ok());
  expect(observe(cpu{}, policy, state, in, room.get()), status_code::bad_shape, "length");  // nothing is new
  expect(evict(cpu{}, h2o{.budget = slots(0)}, state, in, kept, room.get()), status_code::bad_budget, "budget");
  expect(evict(cpu{}, policy, state, in, selection{{slots_of.data(), 3}, offsets}, room.get()),
         status_code::small_output, "slots");
  CHECK(slots_of == std::vector<index_t>(64, -7));
  CHECK(evict(cpu{}, policy, state, in, kept, room.get()).ok());
  const decode_state cut{workspace{workspace_of(memory).data, 128}};
  expect(evict(cpu{}, policy, cut, in, kept, room.get()), status_code::small_output, "state");
  const host::composed twice{
      score::product{score::accumulated_attention() | score::group_mean{},
                     score::accumulated_attention(score::row_mean::visible) | score::group_mean{}},
      budget::uniform{slots(8)}};
  std::vector<cache_line> large(4096);
  expect(start(twice, extent, decode_state{workspace_of(large)}), status_code::bad_option, "policy");
}
