// SPDX-License-Identifier: MIT
#include "on_device_score.hpp"

#include <doctest/doctest.h>

#include <kvevict/cpu.hpp>

#include "on_device_expected.hpp"
#include "on_device_reference.hpp"

using namespace kvevict;
using namespace on_device;

namespace {

/// Scores near the CPU's, and by these scores exactly the CPU's selection.
template <given Given, class Policy, class E, class Stored>
evicted check(const Policy& policy, const host::content<E>& content, const Stored& stored, const beside& extra) {
  CAPTURE(std::string(Policy::name));
  CAPTURE(stored.name);
  CAPTURE(content.dim);
  const evicted got = evict<Given>(policy, content, stored, extra, runs());
  REQUIRE(got.wrong == "");
  check_near(got.scores, scores_on_host<Given>(policy, as_floats(content), extra), bound_of_cpu, flips_of<Policy>);
  check_selection(policy, content.shape, content.lengths, got, offset_t(sizeof(E)) * (content.dim + content.value_dim));
  return got;
}

template <class E>
host::content<E> some_content(index_t dim, index_t length, unsigned seed, index_t group = 4) {
  return {cache_shape{.layers = 2, .seqs = 2, .kv_heads = 2}, {length, length / 3 + 40}, dim, dim, group, seed};
}

constexpr amount two_fifths = percent(40);
template <class Pool = score::max_pool>
constexpr snapkv<Pool> snap{.budget = two_fifths, .pool_width = 5};

}  // namespace

TEST_CASE("on the device: attention of every head_dim is near what double gives") {
  for (const index_t dim : {64, 80, 96, 128, 192, 256}) {
    const auto both = [&]<class E>(E) {
      const auto c = some_content<E>(dim, light() ? 160 : 420, unsigned(dim));
      beside extra = beside_of(c, 1);
      const auto stored = host::in_strides(c, "hnd", hnd);
      const auto all = attention_in_double(as_floats(c), score::all_rows, extra);
      const auto recent = attention_in_double(as_floats(c), 32, extra);
      auto plain = snap<>;
      plain.pool_width = 1;
      CAPTURE(dim);
      const auto near = [&](const evicted& got, auto expected, double of_rows) {
        REQUIRE(got.wrong == "");
        for (auto& row : expected)
          for (double& x : row) x /= of_rows;
        check_near(got.scores, expected, bound_of_double);
      };
      near(evict<given::queries>(plain, c, stored, extra, 1), recent, 32);
      if constexpr (std::is_same_v<E, bfloat16>) {
        near(evict<given::log_sum_exp>(plain, c, stored, extra, 1), recent, 32);
        near(evict<given::log_sum_exp>(h2o{.budget = two_fifths}, c, stored, extra, 1), all, 1);
      } else {
        near(evict<given::queries>(h2o{.budget = two_fifths}, c, stored, extra, 1), all, 1);
      }
    };
    both(bfloat16{});
    both(half{});
  }
}

TEST_CASE("on the device: bf16 in every layout, with all that can be passed") {
  for (unsigned seed = 0; seed < (light() ? 1u : 3u); ++seed)
    for (const index_t dim : {64, 128, 256}) {
      const auto c = some_content<bfloat16>(dim, 300 + 200 * index_t(seed), 10 + seed, seed == 1 ? 3 : 4);
      beside extra = beside_of(c, seed);
      static_cast<void>(attention_in_double(as_floats(c), score::all_rows, extra));
      const ahakv<score::plain_gain> aha{.budget = two_fifths};
      for (const auto& stored : {host::in_strides(c, "hnd", hnd), host::in_strides(c, "nhd", nhd)}) {
        check<given::queries>(snap<>, c, stored, extra);
        check<given::log_sum_exp>(snap<>, c, stored, extra);
        check<given::log_sum_exp>(h2o{.budget = two_fifths}, c, stored, extra);
        check<given::everything>(aha, c, stored, extra);
      }
      const auto ragged = host::in_flat(c);
      check<given::log_sum_exp>(snap<>, c, ragged, extra);
      check<given::log_sum_exp>(keydiff{.budget = two_fifths}, c, ragged, extra);
      for (const auto order : {host::page_order::nhd, host::page_order::hnd, host::page_order::per_row}) {
        const auto pages = host::in_pages(c, order, 16);
        check<given::queries>(snap<>, c, pages, extra);
        check<given::log_sum_exp>(snap<>, c, pages, extra);
        check<given::log_sum_exp>(aha, c, pages, extra);
      }
    }
}

TEST_CASE("on the device: fp32, also with dims that fill no vector") {
  for (const index_t dim : {7, 64, 128, 192}) {
    const auto c = some_content<float>(dim, light() ? 200 : 500, unsigned(dim), 2);
    beside extra = beside_of(c, 3);
    static_cast<void>(attention_in_double(as_floats(c), score::all_rows, extra));
    const auto stored = host::in_strides(c, "nhd", nhd);
    check<given::queries>(snap<>, c, stored, extra);
    check<given::queries>(snap<>, c, host::with_transposed_keys(c), extra);
    check<given::queries>(snap<>, c, host::in_flat(c), extra);
    check<given::log_sum_exp>(h2o{.budget = two_fifths}, c, stored, extra);
    check<given::everything>(ahakv<score::plain_gain>{.budget = two_fifths}, c, stored, extra);
    check<given::everything>(ahakv<>{.budget = two_fifths}, c, stored, extra);
    check<given::everything>(adakv{ahakv<>{.budget = two_fifths}}, c, stored, extra);
    check<given::queries>(ahakv<>{.budget = two_fifths}, c, host::in_pages(c, host::page_order::per_layer), extra);
  }
}

TEST_CASE("on the device: every policy on fp16") {
  for (unsigned seed = 0; seed < (light() ? 1u : 3u); ++seed) {
    const auto c = some_content<half>(seed == 1 ? 80 : 64, 200 + 300 * index_t(seed), 20 + seed, 3);
    const beside extra = beside_of(c, seed);
    const auto stored = host::in_strides(c, "hnd", hnd);
    each_policy(two_fifths, [&](const auto& policy) { check<given::queries>(policy, c, stored, extra); });
  }
}
