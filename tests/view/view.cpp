// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include "../support/engine.hpp"

using namespace kvevict;

namespace {

/// Offsets of (layer, seq, kv_head, slot, dim) in a call of 2 layers, 2 seqs, 3 kv_heads.
constexpr cache_shape shape{2, 2, 3};
struct place {
  index_t layer, seq, head, slot, dim;
  offset_t offset;
};
template <class Layout>
void check_places(const Layout& layout, std::initializer_list<place> table) {
  for (const place& p : table) {
    const row_id row{p.layer, p.seq, p.head, (p.layer * shape.seqs + p.seq) * shape.kv_heads + p.head};
    CAPTURE(p.offset);
    CHECK(layout.offset(row, p.slot, p.dim) == p.offset);
  }
}

}  // namespace

TEST_CASE("rows: index and back, depth of the model") {
  CHECK(shape.rows() == 12);
  CHECK(shape.row(0) == row_id{0, 0, 0, 0});
  CHECK(shape.row(5) == row_id{0, 1, 2, 5});
  CHECK(shape.row(11) == row_id{1, 1, 2, 11});
  CHECK(shape.depth() == 2);
  CHECK(cache_shape{1, 1, 1, 7}.depth() == 8);
  CHECK(cache_shape{1, 1, 1, 7, 32}.depth() == 32);
  CHECK(cache_shape{100000, 20000, 1}.rows() == 2000000000);
}

TEST_CASE("strided: NHD and HND of capacity 10, 4 dims") {
  check_places(hnd(2, 3, 10, 4), {{0, 0, 0, 0, 0, 0},
                                  {0, 0, 0, 0, 3, 3},
                                  {0, 0, 0, 1, 0, 4},
                                  {0, 0, 1, 0, 0, 40},
                                  {0, 1, 0, 0, 0, 120},
                                  {1, 0, 0, 0, 0, 240},
                                  {1, 1, 2, 9, 3, 479}});
  check_places(
      nhd(2, 3, 10, 4),
      {{0, 0, 0, 0, 3, 3}, {0, 0, 1, 0, 0, 4}, {0, 0, 0, 1, 0, 12}, {0, 1, 0, 0, 0, 120}, {1, 1, 2, 9, 3, 479}});
}

TEST_CASE("strided: any strides, shared memory and offsets past 2^31") {
  check_places(strided{.layer = 0, .seq = 1, .head = 0, .slot = 7, .dim = 100}, {{1, 1, 2, 3, 2, 222}});
  check_places(hnd(2, 3, 1 << 20, 1 << 10), {{1, 1, 2, (1 << 20) - 1, 1023, (offset_t{12} << 30) - 1}});
}

TEST_CASE("flat: rows of different length, 64-bit offsets, capacity") {
  const offset_t offsets[] = {0, 6, 7, 12, 12, 20, 30, 31, 32, 33, 34, 35, offset_t{1} << 40};
  const flat layout{offsets, 4};
  check_places(
      layout,
      {{0, 0, 0, 0, 0, 0}, {0, 0, 0, 5, 3, 23}, {0, 0, 1, 0, 0, 24}, {0, 1, 1, 0, 1, 49}, {1, 1, 2, 0, 0, 140}});
  CHECK(layout.capacity(shape.row(0)) == 6);
  CHECK(layout.capacity(shape.row(3)) == 0);
  CHECK(layout.capacity(shape.row(4)) == 8);
  CHECK(layout.capacity(shape.row(11)) == (offset_t{1} << 40) - 35);
}

TEST_CASE("paged: both orders inside a block, and a table per row") {
  const index_t per_seq[] = {7, 2, 4, 0};  // 2 seqs x 2 blocks of 5 slots, pool of 8
  check_places(paged_nhd(per_seq, 2, 5, 3, 4, 8), {{0, 0, 0, 0, 0, 7 * 60},
                                                   {0, 0, 1, 0, 1, 7 * 60 + 5},
                                                   {0, 0, 0, 4, 0, 7 * 60 + 48},
                                                   {0, 0, 0, 5, 0, 2 * 60},
                                                   {0, 1, 0, 9, 0, 48},
                                                   {1, 1, 2, 0, 3, 8 * 60 + 4 * 60 + 11}});
  check_places(paged_hnd(per_seq, 2, 5, 3, 4, 8), {{0, 0, 0, 4, 0, 7 * 60 + 16},
                                                   {0, 0, 1, 0, 1, 7 * 60 + 21},
                                                   {0, 0, 2, 9, 3, 2 * 60 + 40 + 19},
                                                   {1, 1, 2, 0, 3, 8 * 60 + 4 * 60 + 43}});
  const index_t per_row[] = {3, 5, 1, 0, 9, 8, 7, 6, 4, 2, 11, 10};  // one block each
  check_places(paged_per_row(per_row, 1, 5, 4),
               {{0, 0, 0, 2, 1, 3 * 20 + 9}, {1, 1, 2, 0, 0, 200}, {1, 0, 0, 4, 3, 7 * 20 + 19}});
  CHECK(paged_nhd(per_seq, 2, 5, 3, 4, 8).capacity({}) == 10);
}

TEST_CASE("entries: an element as a float, with and without equally spaced dims") {
  const std::vector<half> data{to_half(1), to_half(-2), to_half(0.5F), to_half(3)};
  const entries transposed{data.data(), strided{.slot = 1, .dim = 2}, 2};
  float out[2];
  transposed.load({}, 1, out);
  CHECK(out[0] == -2);
  CHECK(out[1] == 3);
  CHECK(transposed({}, 0, 1) == 0.5F);
  struct backwards {
    [[nodiscard]] offset_t offset(const row_id&, index_t slot, index_t dim) const { return 3 - (slot * 2 + dim); }
  };
  static_assert(cache_layout<backwards> && !strided_dims<backwards>);
  entries{data.data(), backwards{}, 2}.load({}, 0, out);
  CHECK(out[0] == 3);
  CHECK(out[1] == 0.5F);
}

TEST_CASE("views are trivially copyable and an engine's own type is one") {
  static_assert(std::is_trivially_copyable_v<decltype(host::problem(1, 1, 1, 1, 1, 1).cache())>);
  static_assert(cache_with_values<engine::cache_handle<half>>);
  static_assert(cache_view<engine::cache_handle<float>>);
  static_assert(cache_layout<engine::key_order<8>> && !strided_dims<engine::key_order<8>>);
  static_assert(!cache_view<int>);
  using keys = entries<const float, strided>;
  static_assert(cache_view<key_cache<keys>> && !cache_with_values<key_cache<keys>>);
  static_assert(std::is_trivially_copyable_v<query_view<keys>> && std::is_trivially_copyable_v<log_sum_exp_view>);
}

namespace {

/// int8 with a scale per (slot, kv_head): the scales are a part of the view.
struct scaled {
  const float* scales = nullptr;  ///< [kv_heads][length]
  index_t length = 0;
  [[nodiscard]] float operator()(std::int8_t e, const row_id& row, index_t slot, index_t) const {
    return e * scales[row.kv_head * length + slot];
  }
};

}  // namespace

TEST_CASE("a scaled 8-bit cache is a reader: same selection as its floats; scales move along") {
  const host::problem p(2, 2, 70, 8, 6, 70);
  const index_t n = p.length;
  std::vector<std::int8_t> keys, values;
  std::vector<float> key_scales, value_scales, key_floats, value_floats;
  const auto quantise = [&](const std::vector<float>& x, index_t dims, auto& to, auto& scales, auto& floats) {
    for (std::size_t first = 0; first < x.size(); first += std::size_t(dims)) {
      float top = 0;
      for (std::size_t d = 0; d < std::size_t(dims); ++d) top = std::max(top, std::abs(x[first + d]));
      scales.push_back(top / 127);
      for (std::size_t d = 0; d < std::size_t(dims); ++d) {
        to.push_back(static_cast<std::int8_t>(std::lround(x[first + d] / scales.back())));
        floats.push_back(static_cast<float>(to.back()) * scales.back());
      }
    }
  };
  quantise(p.keys, p.dim, keys, key_scales, key_floats);
  quantise(p.values, p.value_dim, values, value_scales, value_floats);
  const strided k = hnd(1, 2, n, p.dim), v = hnd(1, 2, n, p.value_dim);
  const cache small{cache_shape{1, 1, 2}, n, entries{keys.data(), k, p.dim, scaled{key_scales.data(), n}},
                    entries{values.data(), v, p.value_dim, scaled{value_scales.data(), n}}};
  const cache wide{cache_shape{1, 1, 2}, n, entries{key_floats.data(), k, p.dim},
                   entries{value_floats.data(), v, p.value_dim}};
  const auto same = [&](const auto& policy) {
    host::kept a = host::evict(policy, inputs{small, p.query_rows()}),
               b = host::evict(policy, inputs{wide, p.query_rows()});
    REQUIRE(a.status.ok());
    CHECK(a.slots == b.slots);
    CHECK(a.receipts[0].bytes_freed == (n - 20) * (p.dim + p.value_dim));
    return a;
  };
  same(knorm{.budget = slots(20)});
  same(h2o{.budget = slots(20)});
  host::kept kept = same(ahakv<>{.budget = slots(20), .window = 8});
  const strided s{.head = n, .slot = 1};
  REQUIRE(compact_in_place(cpu{}, small, kept.view(), side(key_scales.data(), s), side(value_scales.data(), s)).ok());
  for (const row_id row : {row_id{0, 0, 0, 0}, row_id{0, 0, 1, 1}})
    for (index_t i = 0; i < 20; ++i)
      for (index_t d = 0; d < p.dim; ++d)
        CHECK(small.keys()(row, i, d) == wide.keys()(row, kept.view()[row.index][i], d));
}

TEST_CASE("keys alone, and a latent cache whose values lie inside its keys") {
  const host::problem p(1, 4, 50, 12, 8, 50);
  const strided order = hnd(1, 1, 50, 12);
  const entries keys{p.keys.data(), order, 12};
  const key_cache alone{cache_shape{1, 1, 1}, 50, keys};
  const cache latent{cache_shape{1, 1, 1}, 50, keys, entries{p.keys.data(), order, 8}};  // the first 8 of 12 dims
  const cache separate{cache_shape{1, 1, 1}, 50, keys, entries{p.values.data(), hnd(1, 1, 50, 8), 8}};
  const auto check = [&](const auto& policy) {
    const host::kept a = host::evict(policy, inputs{alone, p.query_rows()});
    REQUIRE(a.status.ok());
    CHECK(a.slots == host::evict(policy, inputs{latent, p.query_rows()}).slots);
    CHECK(a.slots == host::evict(policy, inputs{separate, p.query_rows()}).slots);
    CHECK(a.receipts[0].bytes_freed == a.receipts[0].evicted * 12 * 4);
  };
  check(snapkv<>{.budget = slots(20), .window = 4});
  check(knorm{.budget = slots(20)});
  check(keydiff{.budget = slots(20)});
  check(decayed_keydiff{.budget = slots(20)});
  check(streaming_llm{.budget = slots(20)});
  check(adakv{tova{.budget = slots(20)}});
  const host::kept prior = host::evict(ahakv<>{.budget = slots(20), .window = 4}, inputs{latent, p.query_rows()});
  REQUIRE(prior.status.ok());
  CHECK(prior.receipts[0].bytes_freed == 30 * (12 + 8) * 4);
}

TEST_CASE("keys and values in different layouts and element types") {
  const host::problem p(2, 1, 40, 8, 4, 40);
  std::vector<bfloat16> values;
  for (index_t s = 0; s < 40; ++s)
    for (index_t h = 0; h < 2; ++h)
      for (index_t d = 0; d < 4; ++d) values.push_back(to_bfloat16(p.values[std::size_t((h * 40 + s) * 4 + d)]));
  std::vector<float> rounded = p.values;
  for (float& x : rounded) x = to_float(to_bfloat16(x));
  const entries keys{p.keys.data(), hnd(1, 2, 40, 8), 8};
  const cache mixed{cache_shape{1, 1, 2}, 40, keys, entries{values.data(), nhd(1, 2, 40, 4), 4}};
  const cache plain{cache_shape{1, 1, 2}, 40, keys, entries{rounded.data(), hnd(1, 2, 40, 4), 4}};
  const ahakv<> policy{.budget = slots(12), .window = 4};
  const host::kept a = host::evict(policy, inputs{mixed, p.query_rows()});
  REQUIRE(a.status.ok());
  CHECK(a.slots == host::evict(policy, inputs{plain, p.query_rows()}).slots);
  CHECK(a.receipts[1].bytes_freed == 28 * (8 * 4 + 4 * 2));
}
