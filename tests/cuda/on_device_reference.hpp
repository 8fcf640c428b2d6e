// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "../support/stored.hpp"
#include "on_device_score.hpp"

/// What the tests of the device compare scores with: attention in double, and the numbers beside a cache.
namespace on_device {

template <class E>
[[nodiscard]] host::content<float> as_floats(const host::content<E>& c) {
  host::content<float> out(c.shape, std::vector<index_t>(std::size_t(c.shape.seqs), 1), c.dim, c.value_dim, c.group);
  const auto numbers = [](const std::vector<E>& from) {
    std::vector<float> to;
    to.reserve(from.size());
    for (const E& x : from) to.push_back(kvevict::to_float(x));
    return to;
  };
  out.lengths = c.lengths;
  out.query_rows = c.query_rows;
  out.most = c.most;
  out.queries = numbers(c.queries);
  for (std::size_t r = 0; r < c.keys.size(); ++r) {
    out.keys[r] = numbers(c.keys[r]);
    out.values[r] = numbers(c.values[r]);
  }
  return out;
}

/// Column sums of the last `window` query rows of one query_head, by their definition; `lse(row, number)` is called
/// with every row's log-sum-exp.
template <class LogSumExp>
[[nodiscard]] std::vector<double> columns_of(const host::content<float>& c, index_t r, index_t head_of_group,
                                             index_t window, const LogSumExp& lse) {
  const index_t length = c.lengths[std::size_t(r)];
  kvevict::row_id head = c.shape.row(r);
  head.kv_head = head.kv_head * c.group + head_of_group;
  const kvevict::strided order = c.query_layout();
  std::vector<double> sums(std::size_t(length), 0.0), weight(sums);
  for (index_t i = std::max(0, length - window); i < length; ++i) {
    const float* const query = c.queries.data() + order.offset(head, i, 0);
    double top = -1e300, mass = 0;
    for (index_t j = 0; j <= i; ++j) {
      const float* const key = c.keys[std::size_t(r)].data() + std::size_t(j) * std::size_t(c.dim);
      double dot = 0;
      for (index_t d = 0; d < c.dim; ++d) dot += double(query[d]) * double(key[d]);
      top = std::max(top, weight[std::size_t(j)] = dot / std::sqrt(double(c.dim)));
    }
    for (index_t j = 0; j <= i; ++j) mass += weight[std::size_t(j)] = std::exp(weight[std::size_t(j)] - top);
    for (index_t j = 0; j <= i; ++j) sums[std::size_t(j)] += weight[std::size_t(j)] / mass;
    lse(i, top + std::log(mass));
  }
  return sums;
}

/// The mean over a group of such columns, for every row of the cache. Fills in the log-sum-exp, of base 2, of the rows
/// of the window.
[[nodiscard]] inline std::vector<std::vector<double>> attention_in_double(const host::content<float>& c, index_t window,
                                                                          beside& extra) {
  std::vector<std::vector<double>> out;
  for (index_t r = 0; r < c.shape.rows(); ++r) {
    std::vector<double> mean(std::size_t(c.lengths[std::size_t(r)]), 0.0);
    for (index_t h = 0; h < c.group; ++h) {
      kvevict::row_id head = c.shape.row(r);
      head.kv_head = head.kv_head * c.group + h;
      const auto sums = columns_of(c, r, h, window, [&](index_t i, double lse) {
        extra.log_sum_exp[std::size_t(extra.by_query.offset(head, i, 0))] = float(lse / std::log(2.0));
      });
      for (std::size_t j = 0; j < mean.size(); ++j) mean[j] += sums[j] / double(c.group);
    }
    out.push_back(mean);
  }
  return out;
}

/// Positions after evictions, squared norms of the values, and room for a log-sum-exp that is not there yet.
template <class E>
[[nodiscard]] beside beside_of(const host::content<E>& c, unsigned seed) {
  beside b;
  const index_t heads = c.shape.kv_heads * c.group;
  b.by_query = kvevict::hnd(c.shape.seqs, heads, c.most, 1);
  b.by_slot = kvevict::hnd(c.shape.seqs, c.shape.kv_heads, c.most, 1);
  b.log_sum_exp.assign(std::size_t(offset_t{c.shape.layers} * c.shape.seqs * heads * c.most), NAN);
  b.positions.assign(std::size_t(c.shape.rows() * c.most), -1);
  b.value_norms.assign(b.positions.size(), NAN);
  std::mt19937 chance(seed);
  for (index_t r = 0; r < c.shape.rows(); ++r) {
    const index_t length = c.lengths[std::size_t(r)];
    const index_t seen = length + 7;  // of as many tokens as the sequence has seen, seven are gone
    if (r % c.shape.kv_heads == 0) b.seen.push_back(seen);
    std::vector<index_t> stay(static_cast<std::size_t>(seen));
    std::iota(stay.begin(), stay.end(), 0);
    for (int gone = 0; gone < 7; ++gone) stay.erase(stay.begin() + std::ptrdiff_t(chance() % stay.size()));
    for (index_t j = 0; j < length; ++j) {
      const auto at = std::size_t(r * c.most + j);
      b.positions[at] = stay[std::size_t(j)];
      double norm = 0;
      for (index_t d = 0; d < c.value_dim; ++d) {
        const double x = double(kvevict::to_float(c.values[std::size_t(r)][std::size_t(j * c.value_dim + d)]));
        norm += x * x;
      }
      b.value_norms[at] = float(norm);
    }
  }
  return b;
}

}  // namespace on_device
