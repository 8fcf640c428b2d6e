// SPDX-License-Identifier: MIT
#pragma once

#include <doctest/doctest.h>

#include <kvevict/cpu/openmp.hpp>

#include "../support/engine.hpp"
#include "../support/oracle.hpp"

/// One suite for every policy over every view: a new policy or a new view is one line here.
namespace conformance {

using namespace kvevict;
using host::content;

inline constexpr index_t budget = 24;

template <class F>
void for_each_policy(const F& f) {
  const amount b = slots(budget);
  f(full{});
  f(kvevict::random{.budget = b, .seed = 3, .sinks = 1, .recent = 2});
  f(streaming_llm{.budget = b});
  f(accumulated_attention{.budget = b, .sinks = 2});
  f(h2o{.budget = b, .sinks = 1});
  f(tova{.budget = b});
  f(snapkv<>{.budget = b, .window = 8, .pool_width = 5});
  f(nacl{.budget = b, .window = 8});
  f(ahakv<>{.budget = b, .window = 8, .sinks = 2});
  f(knorm{.budget = b, .recent = 3});
  f(keydiff{.budget = b, .sinks = 4});
  f(decayed_keydiff{.budget = b, .window = 8, .decay = 3});
  f(pyramidkv<>{.budget = b, .window = 4, .beta = 3});
  f(adakv{ahakv<>{.budget = b, .window = 8}});
  f(adakv{pyramidkv<score::avg_pool>{.budget = b, .window = 4, .beta = 3}, 0.5, budget::safeguard::minimum});
}

/// What every selection must be, whatever the policy.
template <class Policy, class Cache>
void check_selection(const Policy& policy, const Cache& cache, host::kept& got, offset_t capacity) {
  REQUIRE(got.status.ok());
  const cache_shape shape = cache.shape();
  constexpr bool adaptive = decltype(policy.rule())::joint;
  CHECK(got.offsets.back() == capacity);  // the total is exact
  for (index_t r = 0; r < shape.rows(); ++r) {
    CAPTURE(r);
    const index_t length = cache.length(shape.row(r));
    const span<const index_t> kept = got.view()[r];
    if constexpr (
        !adaptive && requires { policy.budget; } && !requires { policy.beta; } && !std::is_same_v<Policy, full>)
      REQUIRE(kept.size() == std::min(budget, length));
    REQUIRE(kept.size() <= length);
    std::vector<char> stays(std::size_t(length), 0);
    index_t last = -1;
    for (const index_t slot : kept) {
      REQUIRE(slot > last);
      REQUIRE(slot < length);
      stays[std::size_t(last = slot)] = 1;
    }
    const protected_slots safe = policy.protection().of(length, std::min<index_t>(budget, length));
    for (index_t s = 0; s < length; ++s)
      if (s < safe.sinks || s >= length - safe.recent) CHECK(stays[std::size_t(s)] == 1);
    const row_receipt& receipt = got.receipts[std::size_t(r)];
    CHECK(receipt.retained == kept.size());
    CHECK(receipt.retained + receipt.evicted == length);
  }
}

/// After a compaction, slot k of a row of `to` holds the bytes of slot kept[k] of the content.
template <class E, class Cache>
void check_moved(const content<E>& c, const Cache& to, host::kept& got) {
  for (index_t r = 0; r < c.shape.rows(); ++r)
    for (index_t k = 0; k < got.view()[r].size(); ++k) {
      CAPTURE(r);
      CAPTURE(k);
      REQUIRE(host::same_entry(c, r, got.view()[r][k], to, k));
    }
}

/// One policy on one view: selects what the reference selected, moves bytes exactly, writes nothing else.
template <class E, class Policy, class Stored>
void check_view(const Policy& policy, const content<E>& c, Stored store, const host::kept& expected,
                const std::vector<std::vector<float>>& expected_scores) {
  CAPTURE(store.name);
  const auto view = store.cache();
  const inputs in{view, c.query_rows_view()};
  const auto keys_before = store.keys;
  host::kept got = host::evict(policy, in);
  check_selection(policy, view, got, selection_capacity(policy, in));
  CHECK(got.slots == expected.slots);
  CHECK(got.offsets == expected.offsets);
  CHECK(host::score(policy, in) == expected_scores);
  CHECK(std::memcmp(keys_before.data(), store.keys.data(), keys_before.size() * sizeof(E)) == 0);

  // Into new memory, with room to grow that nobody writes.
  const auto rows = std::size_t(c.shape.rows());
  constexpr index_t slack = 3;
  std::vector<offset_t> offsets(rows + 1);
  flat_offsets(got.view(), slack, offsets.data());
  auto keys = host::poisoned<E>(offsets.back() * c.dim), values = host::poisoned<E>(offsets.back() * c.value_dim);
  std::vector<index_t> lengths(rows);
  retained_lengths(got.view(), lengths.data());
  const cache packed{c.shape, lengths.data(), entries{keys.data(), flat{offsets.data(), c.dim}, c.dim},
                     entries{values.data(), flat{offsets.data(), c.value_dim}, c.value_dim}};
  REQUIRE(gather(cpu{}, view, got.view(), packed).ok());
  check_moved(c, packed, got);
  const E untouched = host::poisoned<E>(1)[0];
  for (std::size_t r = 0; r < rows; ++r)
    for (offset_t i = (offsets[r + 1] - slack) * c.dim; i < offsets[r + 1] * c.dim; ++i)
      REQUIRE(host::same_bits(keys[std::size_t(i)], untouched));

  // In its own memory; what no slot of the view holds stays as it was.
  std::vector<char> owned(store.keys.size(), 0);
  for (index_t r = 0; r < c.shape.rows(); ++r)
    for (index_t s = 0; s < view.length(c.shape.row(r)); ++s)
      for (index_t d = 0; d < c.dim; ++d)
        owned[std::size_t(view.keys().at(c.shape.row(r), s, d) - store.keys.data())] = 1;
  if constexpr (requires { store.order(); })
    REQUIRE(swap_fill(cpu{}, store.physical(), store.order(), got.view()).ok());
  else
    REQUIRE(compact_in_place(cpu{}, view, got.view()).ok());
  check_moved(c, view, got);
  for (std::size_t i = 0; i < owned.size(); ++i)
    if (owned[i] == 0) REQUIRE(host::same_bits(store.keys[i], untouched));
}

/// The same bits for any number of workers, in any order; one call for all rows equals a call per layer and sequence.
template <class E, class Policy>
void check_calls(const Policy& policy, const content<E>& c, const host::kept& expected,
                 const std::vector<std::vector<float>>& expected_scores) {
  auto store = host::in_strides(c, "hnd", hnd);
  const auto view = store.cache();
  const inputs in{view, c.query_rows_view()};
  for (const index_t n : {2, 3, 8}) {
    CAPTURE(n);
    CHECK(host::evict(policy, in, host::shuffled{n}).slots == expected.slots);
    CHECK(host::score(policy, in, host::shuffled{n}) == expected_scores);
    CHECK(host::score(policy, in, openmp{.threads = n}) == expected_scores);
  }
  for (index_t layer = 0; layer < c.shape.layers; ++layer)
    for (index_t seq = 0; seq < c.shape.seqs; ++seq) {
      if (std::is_same_v<Policy, kvevict::random> || std::is_same_v<Policy, nacl>)
        if (seq > 0) continue;  // chance differs between the sequences of a call, by design
      const cache_shape one{1, 1, c.shape.kv_heads, layer, c.shape.layers};
      const index_t first = (layer * c.shape.seqs + seq) * c.shape.kv_heads;
      const auto at = [&](const auto& layout) { return layout.layer * layer + layout.seq * seq; };
      const cache part{one, store.lengths.data() + first,
                       entries{store.keys.data() + at(store.key_layout), store.key_layout, c.dim},
                       entries{store.values.data() + at(store.value_layout), store.value_layout, c.value_dim}};
      const query_view rows{entries{c.queries.data() + at(c.query_layout()), c.query_layout(), c.dim},
                            c.shape.kv_heads * c.group, c.query_rows[std::size_t(layer * c.shape.seqs + seq)]};
      host::kept alone = host::evict(policy, inputs{part, rows});
      REQUIRE(alone.status.ok());
      host::kept all = expected;
      for (index_t h = 0; h < c.shape.kv_heads; ++h)
        CHECK(alone.rows()[std::size_t(h)] == all.rows()[std::size_t(first + h)]);
    }
}

template <class E>
void every_policy_over_every_view() {
  const content<E> c(cache_shape{2, 2, 2}, {61, 19}, 16, 8, 2);
  for_each_policy([&](const auto& policy) {
    CAPTURE(std::remove_cvref_t<decltype(policy)>::name);
    auto reference = host::in_strides(c, "hnd", hnd);
    const inputs in{reference.cache(), c.query_rows_view()};
    const host::kept expected = host::evict(policy, in);
    const auto scores = host::score(policy, in);
    if constexpr (!decltype(policy.rule())::joint && !requires { policy.beta; } &&
                  !std::is_same_v<std::remove_cvref_t<decltype(policy)>, full>)
      for (index_t r = 0; r < c.shape.rows(); ++r) {
        const protected_slots safe = policy.protection().of(c.lengths[std::size_t(r)], budget);
        host::kept copy = expected;
        CHECK(copy.rows()[std::size_t(r)] == oracle::select(scores[std::size_t(r)], budget, safe.sinks, safe.recent));
      }
    check_view(policy, c, host::in_strides(c, "hnd", hnd), expected, scores);
    check_view(policy, c, host::in_strides(c, "nhd", nhd), expected, scores);
    check_view(policy, c, host::with_transposed_keys(c), expected, scores);
    check_view(policy, c, host::in_flat(c), expected, scores);
    check_view(policy, c, host::in_pages(c, host::page_order::nhd), expected, scores);
    check_view(policy, c, host::in_pages(c, host::page_order::hnd), expected, scores);
    check_view(policy, c, host::in_pages(c, host::page_order::per_layer), expected, scores);
    check_view(policy, c, host::in_pages(c, host::page_order::per_row), expected, scores);
    check_view(policy, c, host::in_any_order<E>(c), expected, scores);
    check_view(policy, c, engine::instance<E>(c), expected, scores);
    check_calls(policy, c, expected, scores);
  });
}

}  // namespace conformance
