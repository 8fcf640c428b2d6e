// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <vector>

#include "host.hpp"

/// Every stage once more, in double and in plain loops, written from the formulas and not from the library.
namespace oracle {

using vec = std::vector<double>;
using kvevict::index_t;

/// Weights of one query row over the first `visible` keys of a head.
inline vec softmax_row(const host::problem& p, index_t query_head, index_t row, index_t visible, double gain) {
  const index_t h = query_head / p.group;
  vec w(static_cast<std::size_t>(visible));
  double top = -1e300, total = 0;
  for (index_t j = 0; j < visible; ++j) {
    double dot = 0;
    for (index_t d = 0; d < p.dim; ++d)
      dot += double(p.queries[std::size_t((query_head * p.rows + row) * p.dim + d)]) *
             double(p.keys[std::size_t((h * p.length + j) * p.dim + d)]);
    w[std::size_t(j)] = gain * dot / std::sqrt(double(p.dim));
    top = std::max(top, w[std::size_t(j)]);
  }
  for (double& x : w) total += x = std::exp(x - top);
  for (double& x : w) x /= total;
  return w;
}

/// Column sums of the last `window` rows of a query_head: sum of weight(age) a[i, j].
inline vec columns(const host::problem& p, index_t query_head, index_t window,
                   const std::function<double(index_t)>& gain, const std::function<double(index_t)>& weight) {
  vec s(std::size_t(p.length), 0.0);
  for (index_t r = std::max(0, p.rows - window); r < p.rows; ++r) {
    const index_t visible = p.length - p.rows + r + 1;
    const vec a = softmax_row(p, query_head, r, visible, gain(visible));
    for (std::size_t j = 0; j < a.size(); ++j) s[j] += weight(p.length - visible) * a[j];
  }
  return s;
}
inline double one(index_t) { return 1.0; }

inline vec group_mean(const std::vector<vec>& heads) {
  vec s(heads[0].size(), 0.0);
  for (const vec& h : heads)
    for (std::size_t j = 0; j < s.size(); ++j) s[j] += h[j] / double(heads.size());
  return s;
}

/// Mean over the group of a kv_head of the plain window columns.
inline vec window_mean(const host::problem& p, index_t kv_head, index_t window,
                       const std::function<double(index_t)>& gain = one) {
  std::vector<vec> heads;
  for (index_t g = 0; g < p.group; ++g) heads.push_back(columns(p, kv_head * p.group + g, window, gain, one));
  return group_mean(heads);
}

inline vec average(const vec& x, index_t width, index_t count) {
  vec y = x;
  for (index_t j = 0; j < count; ++j) {
    double sum = 0;
    for (index_t i = j - width / 2; i <= j + width / 2; ++i) sum += i >= 0 && i < count ? x[std::size_t(i)] : 0.0;
    y[std::size_t(j)] = sum / width;
  }
  return y;
}
inline vec maximum(const vec& x, index_t width, index_t count) {
  vec y = x;
  for (index_t j = 0; j < count; ++j)
    for (index_t i = std::max(0, j - width / 2); i <= std::min(count - 1, j + width / 2); ++i)
      y[std::size_t(j)] = std::max(y[std::size_t(j)], x[std::size_t(i)]);
  return y;
}

/// Slots ordered by the contract: score descending, NaN last, the smaller slot first.
inline std::vector<index_t> ranking(const std::vector<float>& s, index_t first, index_t last) {
  std::vector<index_t> order;
  for (index_t j = first; j < last; ++j) order.push_back(j);
  std::stable_sort(order.begin(), order.end(), [&](index_t a, index_t b) {
    const float x = s[std::size_t(a)], y = s[std::size_t(b)];
    if (std::isnan(x)) return false;
    return std::isnan(y) || x > y;
  });
  return order;
}

/// The protected slots and the best others, `budget` in all.
inline std::vector<index_t> select(const std::vector<float>& s, index_t budget, index_t sinks, index_t recent) {
  const auto length = index_t(s.size());
  std::vector<index_t> kept;
  for (index_t j = 0; j < length; ++j)
    if (budget >= length || j < sinks || j >= length - recent) kept.push_back(j);
  if (budget < length) {
    const std::vector<index_t> order = ranking(s, sinks, length - recent);
    for (index_t k = 0; index_t(kept.size()) < budget; ++k) kept.push_back(order[std::size_t(k)]);
  }
  std::sort(kept.begin(), kept.end());
  return kept;
}

struct pool_row {
  std::vector<float> scores;
  index_t nominal = 0, sinks = 0, recent = 0;
};

/// Ada-KV's counts: how many of the joint best belong to each row. Equal scores: the smaller row, the smaller slot.
inline std::vector<index_t> joint_counts(const std::vector<pool_row>& rows, index_t total,
                                         const std::vector<index_t>& minimum) {
  std::vector<index_t> counts(rows.size(), 0);
  struct item {
    float score;
    std::size_t row;
    bool certain;
  };
  std::vector<item> all;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const auto order = ranking(rows[r].scores, rows[r].sinks, index_t(rows[r].scores.size()) - rows[r].recent);
    for (std::size_t k = 0; k < order.size(); ++k)
      all.push_back({rows[r].scores[std::size_t(order[k])], r, index_t(k) < minimum[r]});
  }
  std::stable_sort(all.begin(), all.end(), [](const item& a, const item& b) {
    if (a.certain != b.certain) return a.certain;
    if (std::isnan(a.score)) return false;
    return std::isnan(b.score) || a.score > b.score;
  });
  for (index_t k = 0; k < total; ++k) ++counts[all[std::size_t(k)].row];
  return counts;
}

/// Final budgets of a pool with either safeguard.
inline std::vector<index_t> adaptive(const std::vector<pool_row>& rows, double floor, kvevict::budget::safeguard kind) {
  const std::int64_t millionths = std::llround(floor * 1e6);
  index_t total = 0, evictable = 0;
  std::vector<index_t> minimum(rows.size(), 0), uniform, room, out;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const index_t held = rows[r].sinks + rows[r].recent;
    uniform.push_back(rows[r].nominal - held);
    room.push_back(index_t(rows[r].scores.size()) - held);
    total += uniform.back();
    evictable += room.back();
    if (kind == kvevict::budget::safeguard::minimum)
      minimum[r] = std::clamp<index_t>(index_t(millionths * rows[r].nominal / 1000000) - held, 0, room.back());
  }
  total = std::min(total, evictable);
  const std::vector<index_t> counts = joint_counts(rows, total, minimum);
  std::vector<std::int64_t> rest;
  index_t given = 0;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const std::int64_t exact = kind == kvevict::budget::safeguard::minimum
                                   ? std::int64_t{1000000} * counts[r]
                                   : (1000000 - millionths) * counts[r] + millionths * uniform[r];
    out.push_back(std::min(index_t(exact / 1000000), room[r]));
    rest.push_back(exact % 1000000);
    given += out.back();
  }
  // Turns: in each one, every row that still has room gets at most one slot, the larger remainder first.
  while (given < total) {
    std::vector<std::size_t> order(rows.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return rest[a] > rest[b]; });
    for (const std::size_t r : order)
      if (given < total && out[r] < room[r]) {
        ++out[r];
        ++given;
      }
  }
  for (std::size_t r = 0; r < rows.size(); ++r) out[r] += rows[r].sinks + rows[r].recent;
  return out;
}

}  // namespace oracle
