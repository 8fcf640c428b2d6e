// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include <kvevict/cuda/score/attention.hpp>
#include <kvevict/cuda/score/attention_stream.hpp>
#include <kvevict/cuda/score/general_products.hpp>
#include <kvevict/cuda/score/mma_products.hpp>
#include <kvevict/cuda/score/wgmma_products.hpp>
#include <kvevict/kvevict.hpp>
#include <random>

#include "../support/simulated_block.hpp"
#include "../support/storage.hpp"

using namespace kvevict;

namespace {

using host::content;

/// What is passed beside keys and queries.
struct beside {
  bool with_lse = false;
  log_base base = log_base::e;
  std::vector<float> lse;  ///< [layers][seqs][query_heads][query rows]
  strided lse_layout{};
  bool with_positions = false;
  std::vector<index_t> positions, seen;
};

struct run_options {
  int threads = 64;
  index_t blocks_per_row = 1;
  bool join = false;
  std::uint32_t seed = 1;
  detail::heads_as heads = detail::heads_as::each;
};

/// The tokens a row has seen, and the position of every slot.
template <class E>
void invent_positions(const content<E>& c, beside& extra, std::uint32_t seed) {
  std::mt19937 chance(seed);
  extra.with_positions = true;
  extra.positions.assign(std::size_t(c.shape.rows() * c.most), -1);
  for (index_t s = 0; s < c.shape.layers * c.shape.seqs; ++s)
    extra.seen.push_back(c.lengths[std::size_t(s * c.shape.kv_heads)] + index_t(chance() % 40));
  for (index_t r = 0; r < c.shape.rows(); ++r) {  // the slots that stay of all that were seen
    index_t left = extra.seen[std::size_t(r / c.shape.kv_heads)], wanted = c.lengths[std::size_t(r)], at = 0;
    for (index_t p = 0; wanted > 0; ++p, --left)
      if (chance() % std::uint32_t(left) < std::uint32_t(wanted)) {
        extra.positions[std::size_t(r * c.most + at++)] = p;
        --wanted;
      }
  }
}

/// A column per slot, for every query_head of every row, in double and from the definition (score/attention.hpp). Fills
/// in the log-sum-exp too.
template <class E, class Attention, class Budget>
std::vector<std::vector<double>> naive(const content<E>& c, const Attention& how, const Budget& budget, beside& extra) {
  std::vector<std::vector<double>> out;
  const auto queries = c.query_rows_view();
  const index_t heads = c.shape.kv_heads * c.group;
  extra.lse_layout = {
      .layer = offset_t{c.shape.seqs} * heads * c.most, .seq = offset_t{heads} * c.most, .head = c.most};
  extra.lse_layout.slot = 1;
  extra.lse.assign(std::size_t(c.shape.layers * extra.lse_layout.layer), NAN);
  for (index_t r = 0; r < c.shape.rows(); ++r)
    for (index_t h = 0; h < c.group; ++h) {
      const index_t length = c.lengths[std::size_t(r)], total = c.query_rows[std::size_t(r / c.shape.kv_heads)];
      const index_t seen = extra.with_positions ? extra.seen[std::size_t(r / c.shape.kv_heads)] : length;
      const auto position = [&](index_t j) {
        return extra.with_positions ? extra.positions[std::size_t(r * c.most + j)] : j;
      };
      row_id head = c.shape.row(r);
      head.kv_head = head.kv_head * c.group + h;
      std::vector<double> sum(std::size_t(length), 0), weight_of(sum), a(sum);
      double weight_of_all = 0;
      const index_t window = std::min(how.window, std::min(seen, total));
      for (index_t i = seen - window; i < seen; ++i) {
        const double weight = how.weight(seen - 1 - i), gain = double(how.gain(i + 1, budget(c.shape, head, length)));
        weight_of_all += weight;
        double top = -1e300, mass = 0;
        index_t visible = 0;
        for (; visible < length && position(visible) <= i; ++visible) {
          double dot = 0;
          for (index_t d = 0; d < c.dim; ++d)
            dot += double(queries.entries(head, total - (seen - i), d)) *
                   double(to_float(c.keys[std::size_t(r)][std::size_t(visible * c.dim + d)]));
          a[std::size_t(visible)] = gain * dot / std::sqrt(double(c.dim));
          top = std::max(top, a[std::size_t(visible)]);
        }
        for (index_t j = 0; j < visible; ++j) mass += std::exp(a[std::size_t(j)] - top);
        for (index_t j = 0; j < visible; ++j) {
          sum[std::size_t(j)] += weight * std::exp(a[std::size_t(j)] - top) / mass;
          weight_of[std::size_t(j)] += weight;
        }
        extra.lse[std::size_t(extra.lse_layout.offset(head, total - (seen - i), 0))] =
            float((top + std::log(mass)) / (extra.base == log_base::two ? std::log(2.0) : 1.0));
      }
      for (std::size_t j = 0; j < sum.size(); ++j) {
        if (how.mean == score::row_mean::all) sum[j] /= weight_of_all;
        if (how.mean == score::row_mean::visible) sum[j] /= weight_of[j];
      }
      out.push_back(sum);
    }
  return out;
}

/// What a slot gets from all heads of a group.
double of_group(const std::vector<std::vector<double>>& columns, index_t row, index_t heads, std::size_t slot,
                detail::heads_as as) {
  double sum = 0, most = 0;
  for (index_t h = 0; h < heads; ++h) {
    const double x = columns[std::size_t(row * heads + h)][slot];
    sum += x;
    most = std::max(most, x);
  }
  return as == detail::heads_as::max ? most : as == detail::heads_as::mean ? sum / heads : sum;
}

/// The kernels in the order in which an entry point launches them.
template <class Products, class Task>
std::vector<float> simulated_columns(Task task, index_t most, index_t window, const run_options& o) {
  const auto rows = index_t(task.cache.shape().rows());
  const index_t blocks = rows * o.blocks_per_row;
  task.blocks_per_row = o.blocks_per_row;
  task.out = detail::column_output::of(o.heads, task.group_size, most + 1);
  std::vector<float> out(std::size_t(rows * task.out.row), -7);
  task.out.data = out.data();
  std::vector<cache_line> scratch;
  if constexpr (!Task::known) {
    const offset_t columns = detail::softmax_parts::columns_of(task.group_size, window);
    carver count;
    detail::softmax_parts::take(count, rows, o.blocks_per_row, columns);
    scratch.resize(cache_lines(count.bytes()));
    std::memset(static_cast<void*>(scratch.data()), 0xff, scratch.size() * sizeof(cache_line));
    carver place(workspace_of(scratch).data);
    task.parts = detail::softmax_parts::take(place, rows, o.blocks_per_row, columns);
    simulated::run_grid(blocks, o.threads, detail::attention_sums_bytes<Products>(o.threads), o.seed,
                        [&](simulated::block& b) { detail::attention_sums<Products>(b, task); });
    if (o.join) {
      simulated::run_grid(blocks, o.threads, 0, o.seed, [&](simulated::block& b) { detail::attention_join(b, task); });
      task.parts.joined = true;
    }
  }
  if constexpr (requires {
                  requires Products::stages >
                  1;
                })
    simulated::run_grid(blocks, o.threads, detail::attention_stream_bytes<Products>(o.threads), o.seed + 1,
                        [&](simulated::block& b) { detail::attention_stream<Products>(b, task); });
  else
    simulated::run_grid(blocks, o.threads, detail::attention_columns_bytes<Products>(o.threads), o.seed + 1,
                        [&](simulated::block& b) { detail::attention_columns<Products>(b, task); });
  return out;
}

constexpr detail::rule_budget<budget::uniform> nominal{budget::uniform{slots(20)}};

template <class Products, class E, class Cache, class Attention>
void check_columns(const content<E>& c, const Cache& cache, const Attention& how, beside extra, const run_options& o) {
  const auto expected = naive(c, how, nominal, extra);
  const index_t window = std::min(how.window, c.most + 40);
  const auto queries = c.query_rows_view();
  const log_sum_exp_view lse{extra.lse.data(), extra.lse_layout, extra.base};
  const position_view positions{extra.positions.data(),
                                {.layer = offset_t{c.shape.seqs} * c.shape.kv_heads * c.most,
                                 .seq = offset_t{c.shape.kv_heads} * c.most,
                                 .head = c.most,
                                 .slot = 1},
                                extra.seen.data()};
  const auto run = [&](const auto& l, const auto& p) {
    const detail::attention_task<Attention, Cache, std::remove_cvref_t<decltype(queries)>,
                                 std::remove_cvref_t<decltype(l)>, std::remove_cvref_t<decltype(p)>,
                                 detail::rule_budget<budget::uniform>>
        task{.how = how,
             .cache = cache,
             .queries = queries,
             .log_sum_exp = l,
             .positions = p,
             .budget = nominal,
             .group_size = c.group};
    return simulated_columns<Products>(task, c.most, window, o);
  };
  const detail::not_given none;
  const std::vector<float> got = extra.with_lse ? (extra.with_positions ? run(lse, positions) : run(lse, none))
                                                : (extra.with_positions ? run(none, positions) : run(none, none));
  CAPTURE(o.threads);
  CAPTURE(o.seed);
  const double bound = 1.5e-6 + 1e-8 * cache.keys().dims();  // a sum in fp32 of that many products
  const index_t kept = o.heads == detail::heads_as::each ? c.group : 1;
  for (index_t r = 0; r < c.shape.rows(); ++r)
    for (index_t h = 0; h < kept; ++h) {
      auto column = expected[std::size_t(r * c.group + h)];
      if (kept < c.group)
        for (std::size_t j = 0; j < column.size(); ++j) column[j] = of_group(expected, r, c.group, j, o.heads);
      const float* const found = got.data() + (r * kept + h) * offset_t{c.most + 1};
      const double largest = *std::max_element(column.begin(), column.end());
      double worst = 0;
      for (std::size_t j = 0; j < column.size(); ++j)
        worst = std::max(worst, std::isnan(found[j]) ? 1e9 : std::abs(double(found[j]) - column[j]));
      REQUIRE(worst <= bound * largest);
      for (std::size_t j = column.size(); j <= std::size_t(c.most); ++j) REQUIRE(found[j] == -7);
    }
}

/// One of the layouts, known when the test runs: a type less for the compiler.
struct any_layout {
  int kind = 0;
  strided strides{};
  flat rows{};
  paged blocks{};
  explicit any_layout(const strided& l) : strides(l) {}
  explicit any_layout(const flat& l) : kind(1), rows(l) {}
  explicit any_layout(const paged& l) : kind(2), blocks(l) {}
  [[nodiscard]] offset_t offset(const row_id& row, index_t slot, index_t dim) const {
    return kind == 0   ? strides.offset(row, slot, dim)
           : kind == 1 ? rows.offset(row, slot, dim)
                       : blocks.offset(row, slot, dim);
  }
  [[nodiscard]] offset_t dim_stride() const { return kind == 0 ? strides.dim : 1; }
};

/// Every way to be asked, drawn by chance.
template <class Products, class E>
void check_drawn(index_t dims, std::uint32_t seed, std::initializer_list<index_t> threads = {32, 64, 128}) {
  std::mt19937 chance(seed);
  const auto pick = [&](std::initializer_list<index_t> from) { return from.begin()[chance() % from.size()]; };
  const auto length = [&] { return index_t(1 + chance() % 180); };
  const content<E> c({.layers = pick({1, 2}), .seqs = 2, .kv_heads = pick({1, 2})}, {length(), length()}, dims, 4,
                     pick({1, 4, 3}), seed);
  const run_options o{pick(threads), pick({1, 2, 5}), chance() % 3 == 0, seed, detail::heads_as(seed % 4)};
  beside extra;
  if (chance() % 2 == 0) invent_positions(c, extra, seed);
  const index_t window = pick({1, 8, 32, 13, score::all_rows});
  const auto mean = score::row_mean(chance() % 3);
  CAPTURE(window);
  CAPTURE(dims);
  const auto check = [&](auto how) {
    how.window = window;
    how.mean = mean;
    const auto in = [&](auto held) {
      entries keys{held.keys.data(), any_layout(held.key_layout), c.dim};
      check_columns<Products>(c, key_cache{c.shape, c.lengths.data(), keys}, how, extra, o);
    };
    switch (chance() % 4) {
      case 0:
        return in(host::in_strides(c, "hnd", hnd));
      case 1:
        return in(host::in_strides(c, "nhd", nhd));
      case 2:
        return in(host::in_flat(c));
      default:
        return in(host::in_pages(c, host::page_order::nhd, 16));
    }
  };
  check(score::attention<>{});
  check(score::attention<score::step_gain>{.gain = {.floor = 0.1}});
  check(score::attention<score::plain_gain, score::decayed_rows>{.weight = {.length = 20}});
  extra.with_lse = true;
  extra.base = seed % 2 == 0 ? log_base::two : log_base::e;
  check(score::attention<>{});
  check(score::attention<score::plain_gain, score::decayed_rows>{.weight = {.length = 20}});
  check(score::attention<score::step_gain>{});  // the log-sum-exp is of another softmax
}

}  // namespace

TEST_CASE("kernels: attention of anything that reads as numbers") {
  for (std::uint32_t seed = 0; seed < 12; ++seed) {
    check_drawn<detail::general_products<>, float>(seed % 2 ? 64 : 16, seed);
    check_drawn<detail::general_products<>, bfloat16>(seed % 2 ? 7 : 33, 100 + seed);
    check_drawn<detail::general_products<>, half>(24, 200 + seed);
  }
  check_drawn<detail::general_products<>, float>(80, 300);
  check_drawn<detail::general_products<>, float>(128, 301);
  check_drawn<detail::general_products<>, float>(192, 302);  // more dims than are held at once
  check_drawn<detail::general_products<2>, float>(24, 303);
  check_drawn<detail::general_products<2>, bfloat16>(136, 304);
}

TEST_CASE("kernels: queries that are floats beside keys of 16 bits, whether they need all their bits or not") {
  for (const bool rounded : {false, true}) {
    CAPTURE(rounded);
    content<float> c({.seqs = 2, .kv_heads = 2}, {50, 90}, 132, 4, 2, 7);
    const auto round = [](std::vector<float>& all) {
      for (float& x : all) x = to_float(to_bfloat16(x));
    };
    for (auto& keys : c.keys) round(keys);
    if (rounded) round(c.queries);
    const auto held = host::in_strides(c, "hnd", hnd);
    std::vector<bfloat16> keys;
    for (const float x : held.keys) keys.push_back(to_bfloat16(x));
    check_columns<detail::general_products<>>(
        c, key_cache{c.shape, c.lengths.data(), entries{keys.data(), any_layout(held.key_layout), c.dim}},
        score::observation_window(8), {}, {});
  }
}

TEST_CASE("kernels: keys whose dims are apart") {
  const content<float> c({.seqs = 2, .kv_heads = 2}, {50, 90}, 12, 4, 2);
  auto keys = host::with_transposed_keys(c);
  check_columns<detail::general_products<>>(c, keys.cache(), score::observation_window(8), {}, {});
}

TEST_CASE("kernels: attention on tensor cores") {
  for (std::uint32_t seed = 0; seed < 8; ++seed) {
    check_drawn<detail::mma_products<bfloat16, 16>, bfloat16>(16, 400 + seed);
    check_drawn<detail::mma_products<half, 80>, half>(80, 500 + seed);
    check_drawn<detail::mma_products<bfloat16, 128>, bfloat16>(128, 600 + seed);
  }
  check_drawn<detail::mma_products<half, 256>, half>(256, 700);  // dims that are held, and dims that are read again
  check_drawn<detail::mma_products<bfloat16, 256>, bfloat16>(256, 701);
}

TEST_CASE("kernels: attention on tensor cores that warpgroups feed") {
  for (std::uint32_t seed = 0; seed < 4; ++seed) {
    check_drawn<detail::wgmma_products<bfloat16, 128>, bfloat16>(128, 800 + seed, {128, 256});
    check_drawn<detail::wgmma_products<half, 80>, half>(80, 900 + seed, {128, 256});
  }
  check_drawn<detail::wgmma_products<half, 64>, half>(64, 1000, {128, 256});
  check_drawn<detail::wgmma_products<bfloat16, 192>, bfloat16>(192, 1001, {128, 256});
}

TEST_CASE("kernels: attention of query rows that stream past the keys") {
  for (std::uint32_t seed = 0; seed < 4; ++seed) {
    check_drawn<detail::wgmma_products<bfloat16, 16, 4>, bfloat16>(16, 1100 + seed, {128, 256});
    check_drawn<detail::wgmma_products<half, 64, 4>, half>(64, 1200 + seed, {128});
  }
  check_drawn<detail::wgmma_products<bfloat16, 128, 4>, bfloat16>(128, 1300, {128, 256});
  check_drawn<detail::wgmma_products<bfloat16, 192, 4>, bfloat16>(192, 1301, {128});
}
