// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include "naive.hpp"

using namespace kvevict;
using host::tokens;
using naive::vec;

namespace {

#if !defined(KVEVICT_STEPS)
#define KVEVICT_STEPS 500  // with sanitizers fewer: what they find, they find soon
#endif
constexpr index_t prompt = 60, steps = KVEVICT_STEPS, held = 36;

/// Decodes so many tokens with the library and with the naive loop; the kept positions are the same after every step.
///
/// Scores are floats there and doubles here, so two slots may change places at the edge of a budget. Where that happens
/// the naive loop follows the library, if the two scores are equal to five digits; such steps are counted.
template <row_feed Feed = row_feed::queries, class Policy>
void same_as(const Policy& policy, const naive::rule& rule, const std::function<double(index_t)>& gain = oracle::one,
             double decay = 1) {
  const tokens from(2, 2, 2, prompt + steps, 16, 8, 11);
  for (const index_t w : {1, 9}) {
    CAPTURE(w);
    index_t ties = 0, evictions = 0;
    host::sequence<Policy, Feed> ours(from, policy, prompt + steps, prompt);
    naive::cache theirs(from);
    theirs.gain = gain;
    theirs.decay = decay;
    index_t since = w;  // the prompt is evicted at once
    const auto step = [&](index_t n) {
      ours.feed(n);
      for (index_t i = 0; i < n; ++i) theirs.append();
      if (++since < w) return;
      since = 0;
      ++evictions;
      const auto chosen = naive::choose(theirs, rule);
      host::kept got = ours.select();
      REQUIRE(got.status.ok());
      const auto rows = got.rows();
      for (std::size_t r = 0; r < rows.size(); ++r) {
        if (rows[r] != chosen[r]) {
          const vec s = rule.score(theirs, index_t(r));
          double least_kept = 1e300, most_left = -1e300;
          for (index_t j = rule.sinks; j < index_t(s.size()) - rule.recent; ++j) {
            const bool stays = std::binary_search(rows[r].begin(), rows[r].end(), j);
            (stays ? least_kept : most_left) =
                stays ? std::min(least_kept, s[std::size_t(j)]) : std::max(most_left, s[std::size_t(j)]);
          }
          CAPTURE(theirs.seen);
          CAPTURE(r);
          REQUIRE(rows[r].size() == chosen[r].size());
          REQUIRE(most_left - least_kept <= 1e-5 * std::abs(most_left));
          ++ties;
        }
        theirs.keep(r, rows[r]);
      }
      ours.compact(got.view());
      const auto positions = ours.positions();
      for (std::size_t r = 0; r < rows.size(); ++r) REQUIRE(positions[r] == theirs.heads[r].cached);
    };
    step(prompt);
    for (index_t i = 0; i < steps; ++i) step(1);
    CHECK(evictions == 1 + steps / w);
    CHECK(ties <= evictions / 50);
  }
}

naive::rule uniform(std::function<vec(const naive::cache&, index_t)> score, index_t sinks, index_t recent) {
  return {std::move(score), [](index_t) { return held; }, sinks, recent};
}

double step_gain(index_t seen) { return seen > held ? std::sqrt(2 * std::log(double(seen) / held)) : 0.0; }

vec group_of_sums(const naive::cache& c, index_t row) { return oracle::group_mean(c.heads[std::size_t(row)].sums); }

vec times(vec a, const vec& b) {
  for (std::size_t j = 0; j < a.size(); ++j) a[j] *= b[j];
  return a;
}

vec snap_score(const naive::cache& c, index_t row, index_t window, index_t width) {
  const vec s = c.window_sum(row, window);
  return oracle::maximum(s, width, index_t(s.size()) - window);
}
vec aha_score(const naive::cache& c, index_t row, index_t window) {
  return times(c.window_sum(row, window, step_gain), c.prior(row, 5));
}

vec key_diff(const naive::cache& c, index_t row) {
  const auto& cached = c.heads[std::size_t(row)].cached;
  const auto dot = [&](const vec& a, const vec& b) { return std::inner_product(a.begin(), a.end(), b.begin(), 0.0); };
  vec mean(std::size_t(c.of->dim), 0.0), s;
  for (const index_t p : cached) {
    const vec k(c.of->key(row, p), c.of->key(row, p) + c.of->dim);
    for (std::size_t d = 0; d < k.size(); ++d) mean[d] += k[d] / std::sqrt(dot(k, k)) / double(cached.size());
  }
  for (const index_t p : cached) {
    const vec k(c.of->key(row, p), c.of->key(row, p) + c.of->dim);
    s.push_back(-dot(k, mean) / std::sqrt(dot(k, k) * dot(mean, mean)));
  }
  return s;
}

/// The mean of a score over all kv_heads of a layer.
vec over_layer(const naive::cache& c, index_t row, const std::function<vec(index_t)>& score) {
  const index_t heads = c.of->shape.kv_heads, first = row / heads * heads;
  vec mean = score(first);
  for (index_t h = 1; h < heads; ++h) {
    const vec s = score(first + h);
    for (std::size_t j = 0; j < mean.size(); ++j) mean[j] += s[j];
  }
  return mean;
}

/// PyramidKV's schedule for two layers, from the formula of its header.
index_t pyramid_budget(index_t layer, index_t mean, double beta, index_t window) {
  double low = mean / beta, high = 2 * mean - low;
  if (high >= prompt - window) {
    high = prompt - window;
    low = 2 * mean - high;
  }
  if (!(prompt >= high && high >= low && low >= window)) return mean;
  return index_t(std::nearbyint(layer == 0 ? high : low));
}

}  // namespace

TEST_CASE("StreamingLLM: the sinks and the latest") {
  same_as(streaming_llm{.budget = slots(held)}, uniform(
                                                    [](const naive::cache& c, index_t row) {
                                                      const auto& p = c.heads[std::size_t(row)].cached;
                                                      return vec(p.begin(), p.end());
                                                    },
                                                    4, 0));
}

TEST_CASE("H2O: running sums survive evictions, a new slot starts with its own weight") {
  same_as(h2o{.budget = slots(held)}, uniform(group_of_sums, 0, held / 2));
  same_as<row_feed::attention>(h2o{.budget = slots(held), .sinks = 2}, uniform(group_of_sums, 2, held / 2));
}

TEST_CASE("accumulated attention: the mean over the rows that saw a slot") {
  const auto score = [](const naive::cache& c, index_t row) {
    vec s = group_of_sums(c, row);
    for (std::size_t j = 0; j < s.size(); ++j) s[j] /= c.seen - c.heads[std::size_t(row)].cached[j];
    return s;
  };
  same_as(accumulated_attention{.budget = slots(held), .recent = 3}, uniform(score, 0, 3));
  same_as<row_feed::attention>(accumulated_attention{.budget = slots(held)}, uniform(score, 0, 0));
}

TEST_CASE("TOVA: the newest row, mean over all heads of the layer") {
  const auto score = [](const naive::cache& c, index_t row) {
    return over_layer(c, row, [&](index_t r) { return c.window_sum(r, 1); });
  };
  same_as(tova{.budget = slots(held)}, uniform(score, 0, 1));
  same_as<row_feed::attention>(tova{.budget = slots(held)}, uniform(score, 0, 1));
}

TEST_CASE("SnapKV and PyramidKV: the window slides") {
  same_as(snapkv<>{.budget = slots(held), .window = 8},
          uniform([](const naive::cache& c, index_t row) { return snap_score(c, row, 8, 7); }, 0, 8));
  // Fed by attention, a row keeps what it gave when it passed.
  same_as<row_feed::attention>(snapkv<score::avg_pool>{.budget = slots(held), .window = 8, .pool_width = 5},
                               uniform(
                                   [](const naive::cache& c, index_t row) {
                                     const vec s = c.given_sum(row, 8);
                                     return oracle::average(s, 5, index_t(s.size()) - 8);
                                   },
                                   0, 8));
  naive::rule pyramid = uniform([](const naive::cache& c, index_t row) { return snap_score(c, row, 4, 7); }, 0, 4);
  pyramid.budget = [](index_t layer) { return pyramid_budget(layer, held, 3, 4); };
  REQUIRE(pyramid.budget(0) > pyramid.budget(1));
  same_as(pyramidkv<>{.budget = slots(held), .window = 4, .beta = 3}, pyramid);
}

TEST_CASE("a window that reaches beyond the protected slots: rows see the slots up to their own position") {
  same_as(snapkv<>{.budget = slots(held), .window = 24, .recent = 2}, uniform(
                                                                          [](const naive::cache& c, index_t row) {
                                                                            const vec s = c.window_sum(row, 24);
                                                                            return oracle::maximum(
                                                                                s, 7, index_t(s.size()) - 2);
                                                                          },
                                                                          0, 2));
  // A cache shorter than the window.
  naive::rule tight = uniform([](const naive::cache& c, index_t row) { return c.window_sum(row, 16); }, 1, 2);
  tight.budget = [](index_t) { return 6; };
  same_as(
      ahakv<score::plain_gain, recent_rows, score::no_prior>{.budget = slots(6), .window = 16, .sinks = 1, .recent = 2},
      tight);
}

TEST_CASE("AhaKV: the last rows against the cached keys, i = tokens seen, times the value prior; its ablations") {
  same_as(ahakv<>{.budget = slots(held), .window = 8},
          uniform([](const naive::cache& c, index_t row) { return aha_score(c, row, 8); }, 0, 8));
  same_as(ahakv<score::step_gain, every_row, score::no_prior>{.budget = slots(held), .window = 8},
          uniform(group_of_sums, 0, 8), step_gain);
  same_as(
      ahakv<score::plain_gain>{.budget = slots(held), .window = 8, .sinks = 3},
      uniform([](const naive::cache& c, index_t row) { return times(c.window_sum(row, 8), c.prior(row, 5)); }, 3, 8));
}

TEST_CASE("keys only: norms and KeyDiff over what is cached") {
  same_as(knorm{.budget = slots(held), .recent = 2}, uniform(
                                                         [](const naive::cache& c, index_t row) {
                                                           vec s;
                                                           for (const index_t p : c.heads[std::size_t(row)].cached) {
                                                             double n = 0;
                                                             for (index_t d = 0; d < c.of->dim; ++d)
                                                               n += std::pow(double(c.of->key(row, p)[d]), 2);
                                                             s.push_back(-std::sqrt(n));
                                                           }
                                                           return s;
                                                         },
                                                         0, 2));
  same_as(keydiff{.budget = slots(held), .sinks = 2}, uniform(key_diff, 2, 0));
}

TEST_CASE("decayed attention times KeyDiff's factor, heads sharing") {
  naive::rule rule = uniform(
      [](const naive::cache& c, index_t row) {
        vec unlike = key_diff(c, row);
        for (double& x : unlike) x = (1 + x) * (1 + x);
        return times(c.window_sum(row, 12, oracle::one, [](index_t age) { return std::exp(-age / 5.0); }), unlike);
      },
      4, held * 3 / 10);
  rule.joint = true;
  rule.floor = 0.2;
  same_as(adakv{decayed_keydiff{.budget = slots(held), .window = 12, .decay = 5}}, rule);
}

TEST_CASE("chance: a token's number never changes; NACL draws anew by the scores of the moment") {
  const auto stream = [](const naive::cache& c, index_t row) {
    return score::row_stream(c.of->shape, c.of->shape.row(row));
  };
  same_as(kvevict::random{.budget = slots(held), .seed = 5, .recent = 4},
          uniform(
              [&](const naive::cache& c, index_t row) {
                vec s;
                for (const index_t p : c.heads[std::size_t(row)].cached)
                  s.push_back(double(score::uniform_number(5, stream(c, row), std::uint64_t(p))));
                return s;
              },
              0, 4));
  same_as(nacl{.budget = slots(held), .window = 8, .random = .25, .seed = 2},
          uniform(
              [&](const naive::cache& c, index_t row) {
                vec s = c.window_sum(row, 8);
                const auto& cached = c.heads[std::size_t(row)].cached;
                const index_t certain = (held - 8) - (held - 8) / 4;
                const auto order = oracle::ranking({s.begin(), s.end()}, 0, index_t(s.size()) - 8);
                vec drawn = s;
                for (std::size_t k = std::size_t(certain); k < order.size(); ++k) {
                  const auto j = std::size_t(order[k]);
                  drawn[j] = std::log(double(score::uniform_number(2, stream(c, row), std::uint64_t(cached[j])))) *
                             std::exp(-s[j]);
                }
                return drawn;
              },
              0, 8));
}

TEST_CASE("Ada-KV: head budgets are refreshed at every eviction") {
  naive::rule snap = uniform([](const naive::cache& c, index_t row) { return snap_score(c, row, 8, 7); }, 0, 8);
  snap.joint = true;
  snap.floor = 0.2;
  same_as(adakv{snapkv<>{.budget = slots(held), .window = 8}}, snap);
  naive::rule aha = uniform([](const naive::cache& c, index_t row) { return aha_score(c, row, 8); }, 0, 8);
  aha.joint = true;
  aha.floor = 0.5;
  aha.kind = budget::safeguard::minimum;
  same_as(adakv{ahakv<>{.budget = slots(held), .window = 8}, 0.5, budget::safeguard::minimum}, aha);
  naive::rule heavy = uniform(group_of_sums, 0, held / 2);
  heavy.joint = true;
  heavy.floor = 0.2;
  same_as(adakv{h2o{.budget = slots(held)}}, heavy);
}

TEST_CASE("decayed sums of all rows, in the library's own composition") {
  const host::composed policy{
      score::attention<score::plain_gain, score::decayed_rows>{.window = score::all_rows, .weight = {.length = 40}} |
          score::group_mean{},
      budget::uniform{slots(held)}, protect{2, slots(4)}};
  same_as(policy, uniform(group_of_sums, 2, 4), oracle::one, std::exp(-1.0 / 40));
}

TEST_CASE("full: nothing goes") {
  same_as(full{}, {[](const naive::cache& c, index_t row) { return vec(c.heads[std::size_t(row)].cached.size(), 0.0); },
                   [](index_t) { return prompt + steps; }});
}
