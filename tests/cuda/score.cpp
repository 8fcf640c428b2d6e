// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include <kvevict/cpu.hpp>
#include <kvevict/cuda/score/score.hpp>

#include "../support/simulated_score.hpp"
#include "../support/storage.hpp"

using namespace kvevict;
using host::composed;

/// Reads what other threads have written, at once.
struct read_backwards {
  static constexpr bool reduces_group = false;
};
template <>
struct kvevict::detail::stage_program<read_backwards> : plain_stage_program<read_backwards> {
  template <class Program>
  static void run(const Program& p, const read_backwards&, float* out, carver) {
    const auto scores = p.b.global(out, p.row.length);
    p.each(p.row.length, [&](int t, index_t j) { static_cast<void>(scores.load(t, p.row.length - 1 - j)); });
    p.b.sync();
  }
};

namespace {

using scored = std::vector<std::vector<float>>;

/// Scores that the test gives, on both backends.
struct given {
  static constexpr bool per_query_head = false;
  const float* data = nullptr;
  index_t room = 0;

  [[nodiscard]] float score_slot(const auto&, const score::row_context& row, index_t slot) const {
    return data[row.row.index * room + slot];
  }
  void score_row(const auto& in, const score::row_context& row, float* out) const {
    for (index_t j = 0; j < row.length; ++j) out[j] = score_slot(in, row, j);
  }
};

/// Rows of different length, attention of every query_head, positions after evictions, and the norms of the values.
struct case_of_rows {
  host::content<float> content;
  index_t room;
  std::vector<float> attention, values, norms;
  std::vector<index_t> positions, seen;

  case_of_rows(const cache_shape& shape, const std::vector<index_t>& lengths, index_t dim, index_t group, unsigned seed)
      : content(shape, lengths, dim, 6, group, seed),
        room(content.most),
        attention(host::normal(std::size_t(shape.rows() * group * room), seed + 1)),
        values(host::normal(std::size_t(shape.rows() * room), seed + 2)) {
    std::mt19937 chance(seed);
    for (float& x : attention) x = std::abs(x) / 64;
    const int kind = int(seed % 3);  // scores: all different; few values; few values and what is no number
    for (float& x : values) {
      if (kind > 0) x = std::floor(2 * x) / 2;
      if (kind > 1 && chance() % 9 == 0) x = chance() % 2 ? std::nanf("") : -INFINITY;
    }
    for (index_t r = 0; r < shape.rows(); ++r) {
      index_t at = 0;
      for (index_t j = 0; j < room; ++j) positions.push_back(at += index_t(1 + chance() % 5));
      for (index_t j = 0; j < room; ++j) norms.push_back(j < length(r) ? squared_value(r, j) : std::nanf(""));
      if (r % shape.kv_heads == 0) seen.push_back(0);
      seen.back() = std::max(seen.back(), at + 3);
    }
  }
  [[nodiscard]] index_t length(index_t r) const { return content.lengths[std::size_t(r)]; }
  [[nodiscard]] float squared_value(index_t r, index_t j) const {
    float sum = 0;
    for (index_t d = 0; d < 6; ++d) sum += content.values[std::size_t(r)][std::size_t(j * 6 + d)];
    return sum * sum;
  }
  /// As the kernels of attention leave it.
  void put_attention(const detail::column_output& columns) const {
    struct {
      void store(int, float* to, float x) const { *to = x; }
    } no_block;
    for (index_t r = 0; r < content.shape.rows(); ++r)
      for (index_t j = 0; j < length(r); ++j) {
        float all = NAN;
        for (index_t h = 0; h < columns.heads; ++h)
          columns.put(no_block, 0, r, h, j, attention[std::size_t((r * content.group + h) * room + j)], all);
      }
  }
  [[nodiscard]] strided by_slot() const { return hnd(content.shape.seqs, content.shape.kv_heads, room, 1); }
  [[nodiscard]] auto position() const { return position_view{positions.data(), by_slot(), seen.data()}; }
  [[nodiscard]] auto norm() const { return value_norm_view{norms.data(), by_slot()}; }
  /// One given row of attention: what the CPU adds up to the very columns that the kernel gets.
  [[nodiscard]] auto row_of_attention() const {
    const index_t heads = content.shape.kv_heads * content.group;
    return attention_view{entries{attention.data(), hnd(content.shape.seqs, heads, 1, room), room}, heads, index_t{1}};
  }
};

/// The kernels in the order in which an entry point launches them. `out` begins as what no row has, so that rows that
/// are skipped show.
template <class Policy, class Inputs>
scored simulated_scores(const Policy& policy, const Inputs& in, const case_of_rows& rows,
                        const simulated::launched& how) {
  const cache_shape shape = in.cache.shape();
  std::vector<offset_t> offsets{0};
  for (index_t r = 0; r < shape.rows(); ++r) offsets.push_back(offsets.back() + in.cache.length(shape.row(r)));
  std::vector<float> flat(static_cast<std::size_t>(offsets.back()), -77.0F);
  const ragged<float> scores{flat.data(), offsets.data(), index_t(shape.rows())};
  const simulated::columns columns(policy, in, rows.room, scores);
  if constexpr (detail::attention_sources<std::remove_cv_t<decltype(policy.scorer())>> != 0)
    rows.put_attention(columns.out);
  simulated::score(policy, in, scores, rows.room, columns.out, how);
  scored out;
  for (std::size_t r = 0; r + 1 < offsets.size(); ++r)
    out.emplace_back(flat.begin() + offsets[r], flat.begin() + offsets[r + 1]);
  return out;
}

bool same(float a, float b) { return a == b ? std::signbit(a) == std::signbit(b) : a != a && b != b; }

template <class Policy, class Inputs>
void check_same(const Policy& policy, const Inputs& in, const case_of_rows& rows, std::uint32_t seed) {
  const scored expected = host::score(policy, in);
  const scored got = simulated_scores(policy, in, rows, {simulated::threads_of(seed), seed, index_t(1 + seed % 3)});
  REQUIRE(got.size() == expected.size());
  for (std::size_t r = 0; r < got.size(); ++r)
    for (std::size_t j = 0; j < got[r].size(); ++j) {
      CAPTURE(seed);
      CAPTURE(r);
      CAPTURE(j);
      REQUIRE_MESSAGE(same(got[r][j], expected[r][j]), got[r][j] << " for " << expected[r][j]);
    }
}

/// f(inputs, rows, seed) for rows of many shapes, without positions and with.
template <class F>
void each_case(const F& f) {
  for (std::uint32_t seed = 0; seed < 24; ++seed) {
    const auto length = [&](std::uint32_t i) {
      return index_t(20 + (seed * 37 + i * 91) % (seed % 8 == 7 ? 900 : 150));
    };
    const cache_shape shape{.layers = index_t(1 + seed % 2), .seqs = index_t(1 + seed % 3), .kv_heads = 2};
    const case_of_rows rows(shape, {length(1), length(2), length(3)}, 5, index_t(1 + seed % 4), seed);
    auto memory = host::in_pages(rows.content, host::page_order::nhd);
    if (seed % 2 == 0)
      f(inputs{memory.cache(), rows.row_of_attention()}, rows, seed);
    else
      f(inputs{memory.cache(), rows.row_of_attention(), rows.position(), rows.norm()}, rows, seed);
  }
}

/// A policy that scores like this, with sinks and recent slots.
template <class Scorer>
auto policy_of(const Scorer& scorer) {
  return composed{scorer, budget::uniform{percent(60)}, protect{2, slots(3)}};
}

constexpr auto attention = score::attention<>{.window = 1};

}  // namespace

TEST_CASE("row programs: what is a fixed sum of few terms has the CPU's bits") {
  each_case([](const auto& in, const case_of_rows& rows, std::uint32_t seed) {
    const given scores{rows.values.data(), rows.room};
    check_same(policy_of(scores), in, rows, seed);
    check_same(policy_of(score::recency{}), in, rows, seed);
    check_same(policy_of(score::random{seed}), in, rows, seed);
    check_same(policy_of(attention | score::group_mean{}), in, rows, seed);
    check_same(policy_of(attention | score::group_sum{}), in, rows, seed);
    check_same(policy_of(attention | score::group_max{}), in, rows, seed);
    for (const index_t width : {1, 3, 7, 2001}) {
      check_same(policy_of(scores | score::avg_pool{width}), in, rows, seed);
      check_same(policy_of(scores | score::max_pool{width}), in, rows, seed);
      check_same(policy_of(attention | score::avg_pool{width} | score::group_max{} | score::no_pool{}), in, rows, seed);
    }
    check_same(policy_of(attention | score::no_prior{} | score::max_pool{3} | score::group_mean{} | score::max_pool{5}),
               in, rows, seed);
    check_same(policy_of(scores | score::share_of_max{}), in, rows, seed);
    check_same(policy_of(scores | score::power{.offset = 0.25F, .exponent = 3}), in, rows, seed);
    check_same(policy_of(score::product{scores | score::avg_pool{3}, score::random{seed}}), in, rows, seed);
  });
}

TEST_CASE("row programs: policies that need no attention products, and the chains of those that do") {
  each_case([](const auto& in, const case_of_rows& rows, std::uint32_t seed) {
    const amount budget = percent(50);
    check_same(streaming_llm{.budget = budget}, in, rows, seed);
    check_same(kvevict::random{.budget = budget, .seed = seed, .recent = 3}, in, rows, seed);
    check_same(full{}, in, rows, seed);
    check_same(snapkv<>{.budget = budget, .window = 1, .recent = 4}, in, rows, seed);
    check_same(snapkv<score::avg_pool>{.budget = budget, .window = 1, .pool_width = 5}, in, rows, seed);
    check_same(adakv{pyramidkv<>{.budget = budget, .window = 1}}, in, rows, seed);
    check_same(tova{.budget = budget}, in, rows, seed);
    check_same(nacl{.budget = budget, .window = 1, .random = 0.4, .temperature = 0.1, .seed = seed}, in, rows, seed);
    if constexpr (std::remove_cvref_t<decltype(in)>::template has<input_kind::value_norms>)
      check_same(ahakv<score::plain_gain>{.budget = budget, .window = 1}, in, rows, seed);
  });
}

TEST_CASE("row programs: a draw spares the best, the first of equal ones, and no more of them") {
  each_case([](const auto& in, const case_of_rows& rows, std::uint32_t seed) {
    const given scores{rows.values.data(), rows.room};
    for (const double share : {0.0, 0.01, 0.3, 0.99, 1.0})
      check_same(policy_of(scores | score::random_share{.share = share, .temperature = 0.5, .seed = seed}), in, rows,
                 seed);
  });
}

namespace {

constexpr double unit = 0x1p-24;

double norm_of(const std::vector<double>& x) {
  double sum = 0;
  for (const double e : x) sum += e * e;
  return std::sqrt(sum);
}

/// Keys or values of a row in double.
template <class E>
std::vector<std::vector<double>> entries_of(const std::vector<E>& row, index_t dims) {
  std::vector<std::vector<double>> out(row.size() / std::size_t(dims));
  for (std::size_t i = 0; i < row.size(); ++i) out[i / std::size_t(dims)].push_back(double(to_float(row[i])));
  return out;
}

/// Key scores and prior of a cache in memory against double, within what the headers promise.
template <class E>
void check_bounds(const host::content<E>& c, const auto& cache, const case_of_rows& rows, std::uint32_t seed) {
  const simulated::launched how{simulated::threads_of(seed), seed, index_t(1 + seed % 3)};
  const inputs in{cache};
  const scored norm = simulated_scores(policy_of(score::key_norm{}), in, rows, how);
  const scored diff = simulated_scores(policy_of(score::key_diff{}), in, rows, how);
  const scored prior = simulated_scores(policy_of(score::recency{} | score::value_prior{1}), in, rows, how);
  const double steps = c.dim / 32.0, value_steps = c.value_dim / 32.0;
  for (std::size_t r = 0; r < norm.size(); ++r) {
    const auto keys = entries_of(c.keys[r], c.dim), values = entries_of(c.values[r], c.value_dim);
    std::vector<double> mean(std::size_t(c.dim), 0.0);
    double top = 0;
    for (const auto& value : values) top = std::max(top, norm_of(value));
    for (const auto& key : keys)
      for (std::size_t d = 0; d < mean.size(); ++d) mean[d] += key[d] / norm_of(key) / double(keys.size());
    for (std::size_t j = 0; j < keys.size(); ++j) {
      CAPTURE(r);
      CAPTURE(j);
      const double length = norm_of(keys[j]), share = std::pow(norm_of(values[j]) / top, 2) * double(j);
      REQUIRE(std::abs(double(norm[r][j]) + length) <= (steps + 6) * unit * length);
      double dot = 0;
      for (std::size_t d = 0; d < mean.size(); ++d) dot += keys[j][d] * mean[d];
      REQUIRE(std::abs(double(diff[r][j]) + dot / length / norm_of(mean)) <=
              (steps + 12) * 2 * unit * (1 + 1 / norm_of(mean)));
      REQUIRE(std::abs(double(prior[r][j]) - share) <= (2 * (value_steps + 6) + 3) * unit * share);
    }
  }
}

template <class E>
void check_layouts(index_t dim, std::uint32_t seed) {
  CAPTURE(dim);
  CAPTURE(seed);
  const cache_shape shape{.layers = 2, .seqs = 2, .kv_heads = 2};
  const std::vector<index_t> lengths{index_t(1 + seed * 29 % 120), 40};
  const host::content<E> content(shape, lengths, dim, dim / 2 + 1, 1, seed);
  const case_of_rows rows(shape, lengths, 1, 1, seed);
  const auto check = [&](auto stored) { check_bounds(content, stored.cache(), rows, seed); };
  check(host::in_strides(content, "nhd", nhd));
  check(host::with_transposed_keys(content));
  check(host::in_flat(content));
  check(host::in_pages(content, host::page_order::per_row));
  check(host::in_any_order(content));
}

}  // namespace

TEST_CASE("row programs: norms and KeyDiff are near what double gives, in every layout and element type") {
  for (std::uint32_t seed = 0; seed < 3; ++seed)
    for (const index_t dim : {1, 8, 31, 64, 96, 128, 130, 264, 300}) {
      check_layouts<float>(dim, seed);
      check_layouts<half>(dim, seed);
      check_layouts<bfloat16>(dim, seed);
    }
}

namespace {

/// The same entries, `first` elements behind what a vector's memory begins with, `apart` elements from each other.
template <class E>
void check_moved(index_t dim, index_t first, index_t apart, std::uint32_t seed) {
  CAPTURE(dim);
  CAPTURE(first);
  CAPTURE(apart);
  const cache_shape shape{.kv_heads = 2};
  const host::content<E> content(shape, {150}, dim, dim, 1, seed);
  auto keys = host::poisoned<E>(first + shape.rows() * 150 * apart), values = keys;
  strided order = hnd(1, 2, 150, dim);
  order.slot = apart;
  order.head = order.seq = 150 * apart;
  const index_t length = 150;
  const std::vector<index_t> lengths(2, length);
  const kvevict::cache cache{shape, lengths.data(), entries{keys.data() + first, order, dim},
                             entries{values.data() + first, order, dim}};
  for (index_t r = 0; r < 2; ++r)
    for (index_t j = 0; j < length; ++j)
      for (index_t d = 0; d < dim; ++d) {
        const auto i = std::size_t(j * dim + d);
        *cache.keys().at(shape.row(r), j, d) = content.keys[std::size_t(r)][i];
        *cache.values().at(shape.row(r), j, d) = content.values[std::size_t(r)][i];
      }
  check_bounds(content, cache, case_of_rows(shape, {length}, 1, 1, seed), seed);
}

/// Scores of every kind with all bits the same, however many blocks share a row and of however many threads.
template <class E>
void check_divided(index_t dim, index_t length) {
  const cache_shape shape{.layers = 2, .kv_heads = 2};
  const host::content<E> content(shape, {length}, dim, dim, 3, 5);
  const case_of_rows rows(shape, {length}, 1, 3, 5);
  auto memory = host::in_pages(content, host::page_order::hnd);
  const inputs in{memory.cache(), rows.row_of_attention()};
  const auto check = [&](const auto& policy) {
    const scored one = simulated_scores(policy, in, rows, {.threads = 64, .seed = 1});
    for (const index_t blocks : {2, 3, 7})
      CHECK(simulated_scores(policy, in, rows, {32 * blocks, std::uint32_t(blocks), blocks}) == one);
  };
  check(knorm{.budget = percent(50)});
  check(keydiff{.budget = percent(50)});
  check(decayed_keydiff{.budget = percent(50), .window = 1});
  check(ahakv<score::plain_gain>{.budget = percent(50), .window = 1});
  check(snapkv<>{.budget = percent(50), .window = 1});
  check(tova{.budget = percent(50)});
}

}  // namespace

TEST_CASE("row programs: entries that begin or lie where no 16 bytes can be loaded at once") {
  for (const index_t first : {0, 1, 4, 8})
    for (const index_t apart : {64, 65, 68, 72}) {
      check_moved<float>(64, first, apart, 1);
      check_moved<half>(64, first, apart, 2);
      check_moved<bfloat16>(40, first, apart, 3);
    }
}

TEST_CASE("row programs: scores have the same bits however many blocks share a row") {
  check_divided<bfloat16>(128, 700);
  check_divided<half>(37, 300);
  check_divided<float>(264, 260);
}

TEST_CASE("row programs: a KeyDiff of many slots; zero keys score 0") {
  const cache_shape shape{.kv_heads = 1};
  host::content<float> content(shape, {9000}, 16, 1, 1, 3);
  for (float& x : content.keys[0]) x += 0.3F;
  const case_of_rows rows(shape, {9000}, 1, 1, 3);
  auto memory = host::in_strides(content, "hnd", hnd);
  check_bounds(content, memory.cache(), rows, 3);
  std::fill_n(memory.keys.begin() + 16, 16, 0.0F);
  CHECK(simulated_scores(policy_of(score::key_diff{}), inputs{memory.cache()}, rows, {})[0][1] == 0.0F);
}

TEST_CASE("row programs: shares and weighted sums are near what double gives; what sums to 0 stays") {
  each_case([](const auto& in, const case_of_rows& rows, std::uint32_t seed) {
    const simulated::launched how{simulated::threads_of(seed), seed};
    const auto means = policy_of(attention | score::group_mean{});
    const auto shares = policy_of(attention | score::group_mean{} | score::share_of_sum{});
    const auto sums = policy_of(
        score::weighted_sum{attention | score::group_mean{} | score::avg_pool{3}, score::recency{}, 2.5F, -0.3F});
    const auto pooled = policy_of(attention | score::group_mean{} | score::avg_pool{3});
    const scored plain = host::score(means, in), pools = host::score(pooled, in);
    const scored share = simulated_scores(shares, in, rows, how);
    const scored sum = simulated_scores(sums, in, rows, how);
    const scored at = host::score(policy_of(score::recency{}), in);
    for (std::size_t r = 0; r < plain.size(); ++r) {
      const double total = std::accumulate(plain[r].begin(), plain[r].end(), 0.0);
      for (std::size_t j = 0; j < plain[r].size(); ++j) {
        const double expected = double(plain[r][j]) / total;
        const double a = double(2.5F * pools[r][j]), b = double(-0.3F * at[r][j]);
        REQUIRE(std::abs(double(share[r][j]) - expected) <= 2.1 * unit * expected);
        REQUIRE(std::abs(double(sum[r][j]) - (a + b)) <= 2 * unit * (std::abs(a) + std::abs(b)));
      }
    }
  });
  const cache_shape shape{.kv_heads = 1};
  case_of_rows rows(shape, {40}, 1, 1, 3);
  const given scores{rows.values.data(), rows.room};
  auto memory = host::in_strides(rows.content, "hnd", hnd);
  for (float& x : rows.values) x = -0.0F;
  for (const auto& got :
       {simulated_scores(policy_of(scores | score::share_of_sum{}), inputs{memory.cache()}, rows, {32}),
        simulated_scores(policy_of(scores | score::share_of_max{}), inputs{memory.cache()}, rows, {32})})
    for (const float x : got[0]) CHECK(same(x, -0.0F));
}

TEST_CASE("row programs: policies by key scores, and the whole scorer of AhaKV from values") {
  each_case([](const auto& in, const case_of_rows& rows, std::uint32_t seed) {
    const auto near = [&](const auto& policy, float tolerance) {
      const scored expected = host::score(policy, in), got = simulated_scores(policy, in, rows, {64, seed, 2});
      for (std::size_t r = 0; r < got.size(); ++r)
        for (std::size_t j = 0; j < got[r].size(); ++j) REQUIRE(std::abs(got[r][j] - expected[r][j]) <= tolerance);
    };
    near(knorm{.budget = percent(50)}, 1e-5F);
    near(keydiff{.budget = percent(50)}, 1e-5F);
    near(decayed_keydiff{.budget = percent(50), .window = 1}, 1e-5F);
    near(ahakv<score::plain_gain>{.budget = percent(50), .window = 1}, 1e-6F);
    near(policy_of(score::weighted_sum{score::key_norm{} | score::share_of_max{},
                                       score::product{score::key_diff{} | score::power{.offset = 1, .exponent = 2},
                                                      attention | score::max_pool{5} | score::group_mean{}},
                                       0.5F, 2.0F}),
         1e-5F);
  });
}

TEST_CASE("row programs: a row that is kept whole is skipped, unless it is asked for") {
  const cache_shape shape{.seqs = 2, .kv_heads = 1};
  const case_of_rows rows(shape, {30, 50}, 4, 1, 1);
  auto memory = host::in_strides(rows.content, "hnd", hnd);
  const streaming_llm policy{.budget = slots(40)};
  const inputs in{memory.cache()};
  const scored all = simulated_scores(policy, in, rows, {32}),
               some = simulated_scores(policy, in, rows, {.threads = 32, .whole_rows = false});
  CHECK(all == host::score(policy, in));
  CHECK(some[0] == std::vector<float>(30, -77.0F));
  CHECK(some[1] == all[1]);
}

TEST_CASE("row programs: every source and stage ends with the barrier that the next relies on") {
  const cache_shape shape{.kv_heads = 1};
  const case_of_rows rows(shape, {150}, 4, 2, 1);
  auto memory = host::in_strides(rows.content, "hnd", hnd);
  const given scores{rows.values.data(), rows.room};
  using score::operator|;
  const auto check = [&](const auto&... scorer) {
    const auto run = [&](const auto& policy) {
      CHECK_NOTHROW(simulated_scores(policy, inputs{memory.cache()}, rows, {}));
    };
    (run(policy_of(scorer | read_backwards{})), ...);
  };
  check(scores, score::recency{}, score::random{1}, score::key_norm{}, score::key_diff{},
        score::product{scores, scores}, scores | score::avg_pool{3}, scores | score::max_pool{3},
        scores | score::value_prior{3}, scores | score::share_of_sum{}, scores | score::share_of_max{},
        scores | score::power{}, scores | score::random_share{});
  check(attention | read_backwards{} | score::group_mean{}, attention | score::group_mean{},
        attention | score::group_max{});
}
