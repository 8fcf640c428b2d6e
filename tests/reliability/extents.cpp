// SPDX-License-Identifier: MIT
// The ends of what a call may be given: memory past 2^31 and 2^32 elements, rows of 2^24 slots, rows of one slot,
// batches of nothing, budgets and caches that grow and shrink under way.
#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <string>
#include <tuple>

#include "../support/giant.hpp"
#include "../support/oracle.hpp"
#include "../support/sequence.hpp"

using namespace kvevict;
using host::content;

namespace {

template <class F>
void for_each_policy(amount b, index_t window, const F& f) {
  f(full{});
  f(kvevict::random{.budget = b, .seed = 3});
  f(streaming_llm{.budget = b, .sinks = 0});
  f(accumulated_attention{.budget = b});
  f(h2o{.budget = b});
  f(tova{.budget = b});
  f(snapkv<>{.budget = b, .window = window, .recent = 0});
  f(nacl{.budget = b, .window = window, .recent = 0});
  f(ahakv<>{.budget = b, .window = window, .recent = 0});
  f(knorm{.budget = b});
  f(keydiff{.budget = b});
  f(decayed_keydiff{.budget = b, .window = window, .recent = slots(0), .sinks = 0});
  f(pyramidkv<>{.budget = b, .window = window, .beta = 1.5, .recent = 0});
  f(adakv{ahakv<>{.budget = b, .window = window, .recent = 0}});
  f(adakv{knorm{.budget = b}, 0.5, budget::safeguard::minimum});
}

void check_refused(const status& s, status_code code, const char* argument) {
  CAPTURE(s.sentence);
  CHECK(s.code == code);
  CHECK(std::string(s.argument) == argument);
}

/// Whether slot k of every row of `to` holds what slot kept[k] of the content holds.
template <class E, class Cache>
void check_moved(const content<E>& c, const Cache& to, const selection& kept) {
  for (index_t r = 0; r < c.shape.rows(); ++r)
    for (index_t k = 0; k < kept[r].size(); ++k) REQUIRE(host::same_entry(c, r, kept[r][k], to, k));
}

/// A giant cache gives what the same content gives in a small one, and every way of moving it lands where it should.
template <class E, class Giant>
void same_as_small(const content<E>& c, Giant store) {
  CAPTURE(store.name);
  REQUIRE(store.farthest() > offset_t{1} << 32);
  auto reference = host::in_strides(c, "hnd", hnd);
  const inputs small{reference.cache(), c.query_rows_view()};
  const inputs large{store.cache(), c.query_rows_view()};
  const auto same = [&](const auto& policy) {
    CAPTURE(std::remove_cvref_t<decltype(policy)>::name);
    const host::kept expected = host::evict(policy, small), got = host::evict(policy, large);
    REQUIRE(got.status.ok());
    CHECK(got.slots == expected.slots);
    CHECK(got.offsets == expected.offsets);
    CHECK(host::score(policy, large) == host::score(policy, small));
  };
  const adakv policy{ahakv<>{.budget = slots(17), .window = 8}};
  same(policy);
  same(h2o{.budget = slots(17)});
  same(keydiff{.budget = slots(17)});

  host::kept kept = host::evict(policy, large);
  const auto rows = std::size_t(c.shape.rows());
  std::vector<offset_t> offsets(rows + 1);
  flat_offsets(kept.view(), 0, offsets.data());
  auto keys = host::poisoned<E>(offsets.back() * c.dim), values = host::poisoned<E>(offsets.back() * c.value_dim);
  std::vector<index_t> lengths(rows);
  retained_lengths(kept.view(), lengths.data());
  const cache packed{c.shape, lengths.data(), entries{keys.data(), flat{offsets.data(), c.dim}, c.dim},
                     entries{values.data(), flat{offsets.data(), c.value_dim}, c.value_dim}};
  REQUIRE(gather(cpu{}, store.cache(), kept.view(), packed).ok());
  check_moved(c, packed, kept.view());
  REQUIRE(compact_in_place(cpu{}, store.cache(), kept.view()).ok());
  check_moved(c, store.cache(), kept.view());

  // Appended again behind what is left: the content's first slots.
  store.lengths = lengths;
  std::vector<index_t> two(rows, 2);
  const cache added{c.shape, two.data(), entries{reference.keys.data(), reference.key_layout, c.dim},
                    entries{reference.values.data(), reference.value_layout, c.value_dim}};
  REQUIRE(append(cpu{}, added, store.cache(), store.lengths).ok());
  for (std::size_t r = 0; r < rows; ++r) {
    CHECK(store.lengths[r] == lengths[r] + 2);
    kept.slots.insert(kept.slots.begin() + kept.offsets[r + 1] + offset_t(2 * r), {0, 1});
  }
  for (std::size_t r = 0; r <= rows; ++r) kept.offsets[r] += offset_t(2 * r);
  check_moved(c, store.cache(), kept.view());

  // And gathered back from small memory.
  std::vector<index_t> all;
  std::vector<offset_t> all_offsets{0};
  for (const index_t n : c.lengths) {
    for (index_t s = 0; s < n; ++s) all.push_back(s);
    all_offsets.push_back(offset_t(all.size()));
  }
  store.lengths = c.lengths;
  REQUIRE(gather(cpu{}, reference.cache(), selection{all, all_offsets}, store.cache()).ok());
  check_moved(c, store.cache(), selection{all, all_offsets});
}

}  // namespace

TEST_CASE_TEMPLATE("caches past 2^32 elements: what a small cache gives, and every move", E, float, bfloat16) {
  const content<E> c(cache_shape{2, 2, 2}, {61, 19}, 16, 8, 2);
  same_as_small(c, host::giant_in_strides(c, "hnd", hnd));
  same_as_small(c, host::giant_in_strides(c, "nhd", [](index_t seqs, index_t heads, index_t room, index_t dims) {
                  return nhd(seqs, heads, room, dims);
                }));
  same_as_small(c, host::giant_slots(c));
  same_as_small(c, host::giant_flat(c));
  same_as_small(c, host::giant_pages(c, host::page_order::hnd));
  same_as_small(c, host::giant_pages(c, host::page_order::per_row));
}

TEST_CASE("what is passed beside a cache may lie past 2^32 elements") {
  constexpr index_t heads = 2, group = 2, length = 40, dim = 8, rows = 12;
  const host::problem p(heads, group, length, dim, 4, rows);
  constexpr offset_t apart = offset_t{1} << 31;
  const strided far{.head = apart, .slot = 1 << 25};
  const auto spread = [&](const auto& from, index_t count, index_t slots_of, index_t dims) {
    using T = std::remove_const_t<std::remove_reference_t<decltype(from[0])>>;
    host::sparse<T> to(count * apart + (offset_t{slots_of} << 25));
    for (index_t h = 0; h < count; ++h)
      for (index_t s = 0; s < slots_of; ++s)
        for (index_t d = 0; d < dims; ++d)
          to.data()[far.offset({0, 0, h, h}, s, d)] = from[std::size_t((h * slots_of + s) * dims + d)];
    return to;
  };
  const auto queries = spread(p.queries, heads * group, rows, dim);
  const query_view rows_of{entries{queries.data(), far, dim}, heads * group, rows};
  const snapkv<> policy{.budget = slots(12), .window = 8};
  CHECK(host::score(policy, inputs{p.cache(), rows_of}) == host::score(policy, p.in()));

  std::vector<float> norms(std::size_t(heads * length), 0), sums(std::size_t(heads * group * rows));
  for (std::size_t i = 0; i < norms.size() * 4; ++i) norms[i / 4] += p.values[i] * p.values[i];
  for (std::size_t i = 0; i < sums.size(); ++i) sums[i] = float(i % 7);
  const auto far_norms = spread(norms, heads, length, 1), far_sums = spread(sums, heads * group, rows, 1);
  const ahakv<> aha{.budget = slots(12), .window = 8};
  CHECK(host::score(aha, inputs{p.cache(), rows_of, value_norm_view{far_norms.data(), far}}) ==
        host::score(aha, inputs{p.cache(), p.query_rows(), value_norm_view{norms.data(), hnd(1, heads, length, 1)}}));
  CHECK(host::score(policy, inputs{p.cache(), rows_of, log_sum_exp_view{far_sums.data(), far}}) ==
        host::score(policy,
                    inputs{p.cache(), p.query_rows(), log_sum_exp_view{sums.data(), hnd(1, heads * group, rows, 1)}}));

  std::vector<float> weights(std::size_t(heads * group * rows * length));
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = float(i * 37 % 101) / 101;
  const auto far_weights = spread(weights, heads * group, rows, length);
  CHECK(host::score(policy, inputs{p.cache(), attention_view{entries{far_weights.data(), far, length}, heads * group,
                                                             index_t{rows}}}) ==
        host::score(policy,
                    inputs{p.cache(),
                           attention_view{entries{weights.data(), hnd(1, heads * group, rows, length), index_t{length}},
                                          heads * group, index_t{rows}}}));

  // Positions, a token order and side arrays, read and written; keys that are turned in place.
  std::vector<index_t> positions(std::size_t(heads * length)), slots_in_order = positions;
  for (std::size_t i = 0; i < positions.size(); ++i) {
    positions[i] = index_t(i) % length * 3;
    slots_in_order[i] = index_t(i) % length;
  }
  const auto far_positions = spread(positions, heads, length, 1), far_order = spread(slots_in_order, heads, length, 1),
             renumbered = spread(slots_in_order, heads, length, 1);
  const strided near = hnd(1, heads, length, 1);
  CHECK(
      host::score(kvevict::random{.budget = slots(12)}, inputs{p.cache(), position_view{far_positions.data(), far}}) ==
      host::score(kvevict::random{.budget = slots(12)}, inputs{p.cache(), position_view{positions.data(), near}}));

  std::vector<float> keys = p.keys;
  const auto far_keys = spread(p.keys, heads, length, dim);
  const cache_shape shape{1, 1, heads};
  const key_cache small{shape, length, entries{keys.data(), hnd(1, heads, length, dim), dim}},
      large{shape, length, entries{far_keys.data(), far, dim}};
  const std::vector<double> frequencies{1, 0.1, 0.01, 0.001};
  const rope turn{frequencies.data(), dim};
  REQUIRE(
      rotate_keys(cpu{}, small, turn, position_view{positions.data(), near}, position_view{slots_in_order.data(), near})
          .ok());
  REQUIRE(
      rotate_keys(cpu{}, large, turn, position_view{far_positions.data(), far}, position_view{renumbered.data(), far})
          .ok());
  const auto same_keys = [&] {
    for (index_t h = 0; h < heads; ++h)
      for (index_t s = 0; s < length; ++s)
        for (index_t d = 0; d < dim; ++d) REQUIRE(small.keys()({0, 0, h, h}, s, d) == large.keys()({0, 0, h, h}, s, d));
  };
  same_keys();
  std::vector<index_t> kept_slots{1, 4, 39, 0, 2, 30, 31, 38};
  std::vector<offset_t> kept_offsets{0, 3, 8};
  const selection kept{kept_slots, kept_offsets};
  const token_order order{slots_in_order.data(), near}, order_far{far_order.data(), far};
  REQUIRE(swap_fill(cpu{}, small, order, kept, side(positions.data(), near)).ok());
  REQUIRE(swap_fill(cpu{}, large, order_far, kept, side(far_positions.data(), far)).ok());
  same_keys();
  for (index_t h = 0; h < heads; ++h)
    for (index_t s = 0; s < kept[h].size(); ++s) {
      CHECK(order({0, 0, h, h}, s) == order_far({0, 0, h, h}, s));
      CHECK(positions[std::size_t(near.offset({0, 0, h, h}, s, 0))] ==
            far_positions.data()[far.offset({0, 0, h, h}, s, 0)]);
    }
}

TEST_CASE("states past 2^32 elements remember what small ones do") {
  // 32 rows of 2^27 slots: 2^32 positions, 2^33 sums, as many remembered weights.
  constexpr index_t layers = 4, heads = 8, group = 2, dim = 8, tokens = 30, small_room = tokens;
  const host::tokens from(layers, heads, group, tokens, dim, dim);
  const auto rows = index_t(from.shape.rows());
  const auto live = [&](const auto& policy, index_t large_room) {
    CAPTURE(std::remove_cvref_t<decltype(policy)>::name);
    sequence_extent extent{.shape = from.shape, .capacity = small_room, .query_heads = heads * group, .head_dim = dim};
    std::vector<cache_line> small_memory(cache_lines(state_bytes(policy, extent)));
    extent.capacity = large_room;
    const host::sparse<cache_line> large_memory(offset_t(cache_lines(state_bytes(policy, extent))));
    REQUIRE(large_memory.size() * sizeof(cache_line) > std::size_t{1} << 34);
    const decode_state small{workspace_of(small_memory)}, large{workspace_of(large_memory)};
    REQUIRE(start(policy, extent, large).ok());
    extent.capacity = small_room;
    REQUIRE(start(policy, extent, small).ok());

    std::vector<float> keys = from.keys;
    std::vector<index_t> lengths(std::size_t(rows), 0);
    const strided layout = hnd(1, heads, tokens, dim);
    const key_cache view{from.shape, lengths.data(), entries{keys.data(), layout, dim}};
    for (index_t seen = 0; seen < tokens; seen += 5) {
      const key_cache more{from.shape, 5, entries{from.keys.data() + seen * dim, layout, dim}};
      REQUIRE(append(cpu{}, more, view, lengths).ok());
      const inputs in{view,
                      query_view{entries{from.queries.data() + seen * dim, hnd(1, heads * group, tokens, dim), dim},
                                 heads * group, index_t{5}}};
      host::scratch room(workspace_bytes(cpu{}, policy, small, in));
      REQUIRE(observe(cpu{}, policy, small, in, room.get()).ok());
      REQUIRE(observe(cpu{}, policy, large, in, room.get()).ok());
      const auto chosen_by = [&](const decode_state<>& state) {
        host::kept out;
        out.slots.assign(std::size_t(selection_capacity(policy, state, in)), -7);
        out.offsets.assign(std::size_t(rows) + 1, -7);
        out.status = evict(cpu{}, policy, state, in, selection{out.slots, out.offsets}, room.get());
        REQUIRE(out.status.ok());
        return out;
      };
      host::kept kept = chosen_by(small), same = chosen_by(large);
      REQUIRE(same.slots == kept.slots);
      REQUIRE(compact_in_place(cpu{}, view, kept.view(), side(small), side(large)).ok());
      retained_lengths(kept.view(), lengths.data());
      for (index_t r = 0; r < rows; ++r)
        REQUIRE(std::ranges::equal(small.positions(from.shape.row(r)), large.positions(from.shape.row(r))));
    }
  };
  live(h2o{.budget = slots(9)}, 1 << 27);
  live(snapkv<>{.budget = slots(9), .window = 6}, 1 << 27);
}

TEST_CASE("freed blocks of tables past 2^32 ids") {
  const content<half> c(cache_shape{2, 2, 2}, {61, 19}, 16, 8, 2);
  for (const host::page_order kind : {host::page_order::hnd, host::page_order::per_row}) {
    auto store = host::giant_pages(c, kind);
    const auto tables = std::size_t(table_rows(store.key_layout, c.shape));
    std::vector<index_t> held, expected;
    std::vector<index_t> after(c.lengths.size(), 5);  // 5 slots stay: two blocks
    for (std::size_t t = 0; t < tables; ++t) {
      const index_t length = kind == host::page_order::per_row ? c.lengths[t] : c.lengths[2 * t];
      held.push_back((length + 3) / 4);
      for (index_t b = 2; b < held.back(); ++b)
        expected.push_back(store.table.data()[offset_t(t) * store.key_layout.max_blocks + b]);
    }
    std::vector<index_t> freed(100, -7);
    offset_t count = 0;
    REQUIRE(free_blocks(store.key_layout, c.shape, after.data(), 0, {held.data()}, freed, count).ok());
    freed.resize(std::size_t(count));
    CHECK(freed == expected);
    CHECK(held == std::vector<index_t>(tables, 2));
  }
}

TEST_CASE("sums over rows pass 2^32: what a call needs is measured right") {
  float key = 1;
  const cache_shape shape{1, 1, 64};
  constexpr index_t length = 1 << 26;
  const inputs in{key_cache{shape, length, entries{&key, strided{}, 1}}};
  const knorm policy{.budget = slots(length - 1)};
  CHECK(selection_capacity(policy, in) == offset_t{64} * (length - 1));
  const offset_t scores = offset_t{64} * length * offset_t{sizeof(float)};
  CHECK(workspace_bytes(cpu{}, policy, in) > scores);
  CHECK(workspace_bytes(cpu{}, policy, in) < 2 * scores);
  CHECK(workspace_bytes(cpu{}, adakv{policy}, in) > scores);
  CHECK(workspace_bytes(cpu{}, adakv{policy}, in) < scores + scores / 64);  // beside the scores nothing grows with them
  CHECK(shape.rows() == 64);
  CHECK(cache_shape{1 << 16, 1 << 16, 1}.rows() == offset_t{1} << 32);
}

TEST_CASE("a row grows up to the last slot that it can have") {
  constexpr index_t most = most_slots;
  const host::sparse<half> memory(offset_t{most} * 4 + 4);
  std::vector<index_t> lengths{most - 2};
  half tokens[12];
  for (std::uint16_t i = 0; i < 12; ++i) tokens[i] = half{i};
  const strided order{.slot = 4};
  const key_cache to{cache_shape{}, lengths.data(), entries{memory.data(), order, 4}};
  const auto more = [&](index_t n) { return key_cache{cache_shape{}, n, entries{tokens, order, 4}}; };
  check_refused(append(cpu{}, more(3), to, lengths), status_code::bad_shape, "lengths");
  CHECK(lengths[0] == most - 2);
  REQUIRE(append(cpu{}, more(2), to, lengths).ok());
  CHECK(lengths[0] == most);
  for (offset_t i = 0; i < 8; ++i) CHECK(memory.data()[offset_t{most - 2} * 4 + i].bits == i);

  // One slot more is too long for every call, because blocks of slots could no longer be counted.
  for (const index_t length : {index_t{most + 1}, std::numeric_limits<index_t>::max()}) {
    const key_cache longer{cache_shape{}, length, entries{memory.data(), strided{}, 4}};
    check_refused(check(longer), status_code::bad_shape, "length");
    const offset_t places[] = {0, length};
    const float score = 0;
    index_t slot = -7;
    offset_t offsets[] = {-7, -7};
    host::scratch room(1 << 20);
    check_refused(select(cpu{}, knorm{.budget = slots(1)}, row_scores{cache_shape{}, {&score, places, 1}},
                         selection{{&slot, 1}, {offsets, 2}}, room.get()),
                  status_code::bad_shape, "scores");
    CHECK(slot == -7);
  }
  CHECK(check(key_cache{cache_shape{}, most, entries{memory.data(), strided{}, 4}}).ok());
  CHECK(std::int64_t{most} + 1023 == std::numeric_limits<index_t>::max());
}

TEST_CASE("rows and streams of more than 2^24 tokens: the latest stay, one by one") {
  constexpr index_t limit = 1 << 24;
  {  // a stream: few slots are cached, their positions are large
    for (const index_t seen :
         {limit - 1, limit, limit + 1, limit + 9, 2 * limit + 1, std::numeric_limits<index_t>::max()}) {
      CAPTURE(seen);
      std::vector<index_t> positions{0, 1, 2, 3};
      for (index_t p = seen - 40; p < seen; ++p) positions.push_back(p);
      float key = 1;
      const auto length = index_t(positions.size());
      const inputs in{key_cache{cache_shape{}, length, entries{&key, strided{}, 1}},
                      position_view{positions.data(), strided{.slot = 1}}};
      host::kept kept = host::evict(streaming_llm{.budget = slots(20)}, in);
      REQUIRE(kept.status.ok());
      std::vector<index_t> expected{0, 1, 2, 3};
      for (index_t s = length - 16; s < length; ++s) expected.push_back(s);
      CHECK(kept.slots == expected);
    }
  }
  {  // a row: as many slots, which all lie at one place
    float key = 1;
    constexpr index_t length = limit + 77;
    const inputs in{key_cache{cache_shape{}, length, entries{&key, strided{}, 1}}};
    host::kept kept = host::evict(streaming_llm{.budget = slots(1001), .sinks = 1}, in);
    REQUIRE(kept.status.ok());
    std::vector<index_t> expected{0};
    for (index_t s = length - 1000; s < length; ++s) expected.push_back(s);
    CHECK(kept.slots == expected);
    CHECK(kept.receipts[0].evicted == length - 1001);
    kept = host::evict(knorm{.budget = slots(1000), .recent = 10}, in);  // all scores equal: the smallest slots
    REQUIRE(kept.status.ok());
    for (index_t s = 0; s < 990; ++s) REQUIRE(kept.slots[std::size_t(s)] == s);
    CHECK(kept.slots.back() == length - 1);
  }
}

TEST_CASE("rows of one slot: every policy") {
  const std::vector<std::tuple<const char*, float>> expected{
      {"full", 0},      {"random", -1}, {"streaming_llm", 0}, {"accumulated_attention", 1},
      {"h2o", 1},       {"tova", 1},    {"snapkv", 1},        {"nacl", 1},
      {"ahakv", 1},     {"knorm", -5},  {"keydiff", -1},      {"decayed_keydiff", 0},
      {"pyramidkv", 1}, {"ahakv", 1},   {"knorm", -5}};
  std::size_t number = 0;
  for_each_policy(slots(1), 1, [&](const auto& policy) {
    const auto& [name, score] = expected[number++];
    CAPTURE(number);
    REQUIRE(std::string(std::remove_cvref_t<decltype(policy)>::name) == name);
    host::problem p(2, 3, 1, 2, 2, 1);
    for (std::size_t i = 0; i < 4; ++i) p.keys[i] = i % 2 == 0 ? 3.F : -4.F;
    const auto scores = host::score(policy, p.in());
    for (const auto& row : scores) {
      REQUIRE(row.size() == 1);
      if (score == -1 && std::string(name) == "random")
        CHECK((row[0] > 0 && row[0] <= 1));
      else
        CHECK(row[0] == doctest::Approx(score).epsilon(1e-6));
    }
    host::kept kept = host::evict(policy, p.in());
    REQUIRE(kept.status.ok());
    CHECK(kept.rows() == std::vector<std::vector<index_t>>{{0}, {0}});

    // Along decode, with one slot of two left each time.
    if constexpr (!std::is_same_v<std::remove_cvref_t<decltype(policy)>, full>) {
      const host::tokens from(1, 2, 3, 12, 4, 4);
      host::sequence s(from, policy, 3, 1);
      for (index_t t = 0; t < 12; ++t) {
        s.feed(1);
        s.evict();
        for (index_t r = 0; r < 2; ++r) CHECK(s.length(r) == (decltype(policy.rule())::joint ? s.length(r) : 1));
        CHECK(s.length(0) + s.length(1) == 2);
      }
    }
  });
  CHECK(number == expected.size());
}

TEST_CASE("budgets that change from call to call, caches that shrink below the window: every policy") {
  const host::tokens from(2, 2, 2, 70, 8, 8);
  for_each_policy(slots(30), 8, [&](auto policy) {
    using Policy = decltype(policy);
    CAPTURE(Policy::name);
    host::sequence s(from, policy, 70, 40);
    s.feed(40);
    s.evict();
    std::vector<std::vector<index_t>> before = s.positions();
    for (const index_t b : {20, 3, 1, 25, 2, 6, 40, 5}) {
      CAPTURE(b);
      if constexpr (requires { s.policy().base; })
        s.policy().base.budget = slots(b);
      else
        s.policy().budget = slots(b);
      s.feed(3);
      std::vector<std::vector<index_t>> could = s.positions();
      s.evict();
      const auto stays = s.positions();
      for (index_t first = 0; first < 4; first += 2) {
        offset_t held = 0, got = 0, wanted = 0;
        for (std::size_t r = std::size_t(first); r < std::size_t(first) + 2; ++r) {
          held += offset_t(could[r].size());
          got += offset_t(stays[r].size());
          const row_id row = from.shape.row(index_t(r));
          const offset_t alone = s.policy().rule().nominal(from.shape, {row, 40, 0});
          wanted += alone;
          if (!decltype(policy.rule())::joint)
            CHECK(offset_t(stays[r].size()) == std::min<offset_t>(alone, offset_t(could[r].size())));
          // What is left was there: the new tokens are 3 more than before, and nothing comes back.
          CHECK(std::ranges::includes(could[r], stays[r]));
          CHECK(std::ranges::includes(could[r], before[r]));
          CHECK(could[r].size() == before[r].size() + 3);
        }
        CHECK(got == std::min(wanted, held));
      }
      before = stays;
    }
  });
}

namespace {

/// Everything an entry point can be given, for a batch of any shape.
struct batch {
  cache_shape shape;
  std::vector<index_t> lengths = std::vector<index_t>(8, 4), added = std::vector<index_t>(8, 0);
  std::vector<float> memory = std::vector<float>(4096, 1.F);
  std::vector<index_t> slots_of = std::vector<index_t>(64, -7), positions = std::vector<index_t>(64, 0);
  std::vector<offset_t> offsets, other_offsets;
  host::scratch room{1 << 20};

  explicit batch(const cache_shape& s)
      : shape(s),
        offsets(std::size_t(std::max<offset_t>(0, s.rows()) + 1), offset_t{0}),
        other_offsets(offsets.size(), offset_t{-7}) {}

  [[nodiscard]] auto view() {
    const strided order = hnd(2, 2, 8, 4);
    return cache{shape, lengths.data(), entries{memory.data(), order, 4}, entries{memory.data() + 1024, order, 4}};
  }
  [[nodiscard]] selection kept() { return {slots_of, offsets}; }

  /// Calls every entry point that takes a cache; f gets each status and the name of what was called.
  template <class F>
  void each_call(const F& f) {
    const snapkv<> policy{.budget = slots(2), .window = 1};
    const strided per_slot = hnd(2, 2, 8, 1);
    const inputs in{view(), query_view{entries{memory.data(), hnd(2, 2, 8, 4), 4}, 2, 1}};
    const std::vector<float> before = memory;
    CHECK(selection_capacity(policy, in) >= 0);
    CHECK(selection_capacity(adakv{policy}, in) >= 0);
    CHECK(workspace_bytes(cpu{}, policy, in) >= 0);
    CHECK(workspace_bytes(cpu{}, adakv{policy}, in) >= 0);
    CHECK(one_set_bytes(view()) >= 0);
    f(evict(cpu{}, policy, in, kept(), room.get()), "evict");
    f(evict(cpu{}, adakv{policy}, in, kept(), room.get()), "evict, joint");
    f(score_rows(cpu{}, policy, in, {memory.data(), offsets.data(), index_t(shape.rows())}, room.get()), "score_rows");
    f(one_set(view(), kept(), token_set::vote, set_scope::layer, {positions, other_offsets}, room.get()), "one_set");
    f(gather(cpu{}, view(), kept(), view()), "gather");
    f(compact_in_place(cpu{}, view(), kept()), "compact_in_place");
    f(swap_fill(cpu{}, view(), token_order{positions.data(), per_slot}, kept()), "swap_fill");
    const double frequencies[] = {1, 0.1};
    f(rotate_keys(cpu{}, view(), rope{frequencies, 4}, position_view{positions.data(), per_slot},
                  position_view{positions.data(), per_slot}),
      "rotate_keys");
    const sequence_extent extent{.shape = {1, 1, 2}, .capacity = 8, .query_heads = 2, .head_dim = 4};
    std::vector<cache_line> state_memory(cache_lines(state_bytes(policy, extent)));
    const decode_state state{workspace_of(state_memory)};
    REQUIRE(start(policy, extent, state).ok());
    const std::vector<decode_state<>> states(std::size_t(std::max(0, shape.seqs)), state);
    CHECK(selection_capacity(policy, states, in) >= 0);
    CHECK(workspace_bytes(cpu{}, policy, states, in) >= 0);
    f(observe(cpu{}, policy, states, in, room.get()), "observe");
    f(evict(cpu{}, policy, states, in, kept(), room.get()), "evict with states");
    CHECK(memory == before);
    CHECK(slots_of == std::vector<index_t>(64, -7));
    CHECK(other_offsets == std::vector<offset_t>(other_offsets.size(), -7));
  }
};

}  // namespace

TEST_CASE("empty batches are refused by every entry point, and nothing is read or written") {
  const std::pair<cache_shape, const char*> table[] = {
      {{0, 1, 2}, "layers"}, {{1, 0, 2}, "seqs"}, {{1, 1, 0}, "kv_heads"}, {{0, 0, 0}, "layers"}};
  for (const auto& [shape, argument] : table) {
    const std::string expected = argument;
    CAPTURE(expected);
    batch b(shape);
    b.each_call([&](const status& s, const char* call) {
      CAPTURE(call);
      CHECK(s.code == status_code::bad_shape);
      CHECK(std::string(s.argument) == expected);
    });
    check_refused(append(cpu{}, b.view(), b.view(), span<index_t>{b.lengths.data(), shape.rows()}),
                  status_code::bad_shape, argument);
    const row_scores given{shape, {b.memory.data(), b.offsets.data(), index_t(shape.rows())}};
    check_refused(select(cpu{}, knorm{.budget = slots(1)}, given, b.kept(), b.room.get()), status_code::bad_shape,
                  argument);
    offset_t count = -7;
    check_refused(free_blocks(paged_per_row(b.positions.data(), 2, 4, 4), shape, b.lengths.data(), 0,
                              {b.positions.data()}, b.slots_of, count),
                  status_code::bad_shape, argument);
    CHECK(count == -7);
  }
}

TEST_CASE("a row without slots is refused by every call that reads it, wherever it is in the batch") {
  for (const std::size_t empty : {0u, 1u, 3u}) {
    CAPTURE(empty);
    batch b({1, 2, 2});
    b.lengths[empty] = 0;
    b.each_call([&](const status& s, const char* call) {
      CAPTURE(call);
      CHECK(s.code == status_code::bad_shape);
      CHECK(std::string(s.argument) == "length");
    });
    // Appending to it is how it fills; appending nothing is legal.
    const std::vector<index_t> before = b.lengths;
    const key_cache nothing{b.shape, b.added.data(), b.view().keys()};
    REQUIRE(append(cpu{}, nothing, b.view(), span<index_t>{b.lengths.data(), 4}).ok());
    CHECK(b.lengths == before);
  }
}
