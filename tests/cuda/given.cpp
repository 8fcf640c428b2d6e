// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include <kvevict/cpu.hpp>
#include <kvevict/cuda/score/given.hpp>
#include <kvevict/cuda/score/score.hpp>

#include "../support/simulated_score.hpp"
#include "../support/storage.hpp"

using namespace kvevict;

namespace {

/// A cache and rows of attention over it, as many as each sequence has tokens, or only the last ones.
struct given_case {
  host::content<float> content;
  index_t room;
  std::vector<index_t> rows, positions, seen;
  std::vector<float> probabilities;

  given_case(std::uint32_t seed, bool positioned)
      : content({.layers = 2, .seqs = 2, .kv_heads = 2}, {index_t(9 + seed % 70), index_t(40 - seed % 30)}, 4, 3,
                index_t(1 + seed % 3), seed),
        room(content.most) {
    std::mt19937 chance(seed);
    for (index_t r = 0; r < content.shape.rows(); ++r) {
      const index_t length = content.lengths[std::size_t(r)];
      index_t at = 0;
      for (index_t j = 0; j < room; ++j) positions.push_back(at += positioned ? index_t(1 + chance() % 3) : 0);
      if (r % 2 == 0) seen.push_back(0);
      seen.back() = std::max(seen.back(), positions[std::size_t(r * room + length - 1)] + 1 + index_t(chance() % 2));
      if (r % 2 == 1) rows.push_back(positioned ? seen.back() : length);
    }
    const index_t most = *std::max_element(rows.begin(), rows.end());
    probabilities = host::normal(std::size_t(content.shape.rows() * content.group * most * room), seed + 5);
    for (float& a : probabilities) a = std::abs(a) / 64;
  }
  [[nodiscard]] auto attention() const {
    const index_t heads = content.shape.kv_heads * content.group, most = *std::max_element(rows.begin(), rows.end());
    return attention_view{entries{probabilities.data(), hnd(content.shape.seqs, heads, most, room), room}, heads,
                          row_lengths(rows.data())};
  }
  [[nodiscard]] auto position() const {
    return position_view{positions.data(), hnd(content.shape.seqs, content.shape.kv_heads, room, 1), seen.data()};
  }
};

template <class Policy, class Inputs>
std::vector<std::vector<float>> simulated_scores(const Policy& policy, const Inputs& in, index_t room,
                                                 std::uint32_t seed) {
  const cache_shape shape = in.cache.shape();
  const auto rows = index_t(shape.rows());
  const index_t group = group_size(in);
  std::vector<float> flat;
  std::vector<offset_t> offsets{0};
  for (index_t r = 0; r < rows; ++r) offsets.push_back(offsets.back() + in.cache.length(shape.row(r)));
  flat.resize(std::size_t(offsets.back()));
  const ragged<float> out_rows{flat.data(), offsets.data(), rows};
  const simulated::columns columns(policy, in, room, out_rows);
  const auto source = detail::attention_of(policy.scorer());
  const auto run = [&](const auto& positions) {
    const auto& given = in.template get<input_kind::attention>();
    const index_t blocks = index_t(1 + seed % 3);
    const detail::given_task<std::remove_const_t<decltype(source)>, std::remove_cvref_t<decltype(in.cache)>,
                             std::remove_cvref_t<decltype(given)>, std::remove_cvref_t<decltype(positions)>>
        task{source, in.cache, given, positions, group, blocks, columns.out};
    simulated::run_grid(rows * blocks, 32, 0, seed, [&](simulated::block& b) { detail::given_columns(b, task); });
  };
  if constexpr (Inputs::template has<input_kind::positions>)
    run(in.template get<input_kind::positions>());
  else
    run(detail::not_given{});
  simulated::score(policy, in, out_rows, room, columns.out, {64, seed, index_t(1 + seed % 2)});
  std::vector<std::vector<float>> out;
  for (std::size_t r = 0; r + 1 < offsets.size(); ++r)
    out.emplace_back(flat.begin() + offsets[r], flat.begin() + offsets[r + 1]);
  return out;
}

template <class F>
void each_case(const F& f) {
  for (std::uint32_t seed = 0; seed < 12; ++seed) {
    CAPTURE(seed);
    const given_case c(seed, seed % 2 == 1);
    auto memory = host::in_strides(c.content, "hnd", hnd);
    if (seed % 2 == 1)
      f(inputs{memory.cache(), c.attention(), c.position()}, c.room, seed);
    else
      f(inputs{memory.cache(), c.attention()}, c.room, seed);
  }
}

}  // namespace

TEST_CASE("given attention: columns are the CPU's, bit for bit where rows weigh alike") {
  each_case([](const auto& in, index_t room, std::uint32_t seed) {
    const auto check = [&](const auto& policy, bool bits) {
      const auto expected = host::score(policy, in), got = simulated_scores(policy, in, room, seed);
      for (std::size_t r = 0; r < expected.size(); ++r)
        for (std::size_t j = 0; j < expected[r].size(); ++j) {
          CAPTURE(r);
          CAPTURE(j);
          if (bits)
            REQUIRE(host::same_bits(got[r][j], expected[r][j]));
          else
            REQUIRE(got[r][j] == doctest::Approx(expected[r][j]).epsilon(1e-6));
        }
    };
    const amount b = slots(7);
    check(snapkv<>{.budget = b, .window = 5}, true);
    check(tova{.budget = b}, true);
    check(h2o{.budget = b}, true);
    check(accumulated_attention{.budget = b}, true);
    check(pyramidkv<>{.budget = b, .window = 3}, true);
    check(adakv{snapkv<>{.budget = b, .window = 4}}, true);
    using decayed = score::attention<score::plain_gain, score::decayed_rows>;
    for (const score::row_mean mean : {score::row_mean::none, score::row_mean::all, score::row_mean::visible})
      check(host::composed{decayed{.window = 6, .mean = mean, .weight = {.length = 3}} | score::group_max{}}, false);
  });
}

TEST_CASE("given attention: what the host was not told of is not read") {
  // Fewer rows than the window wants, and fewer dims than the row has slots.
  const given_case c(3, false);
  auto memory = host::in_strides(c.content, "hnd", hnd);
  const auto in = [&](index_t rows, index_t dims) {
    auto view = c.attention();
    view.entries.dim_count = dims;
    view.rows = row_lengths(rows);
    return inputs{memory.cache(), view};
  };
  const auto scores = simulated_scores(snapkv<score::no_pool>{.budget = slots(7), .window = 5}, in(2, 4), c.room, 3);
  for (const auto& row : scores)
    for (std::size_t j = 0; j < row.size(); ++j) REQUIRE((j < 4 ? row[j] > 0 : row[j] == 0));
}
