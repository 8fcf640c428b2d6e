// SPDX-License-Identifier: MIT
#pragma once

#include "../support/oracle.hpp"
#include "../support/sequence.hpp"

/// Decoding with eviction once more, in double, token by token, by positions, from the published rules.
namespace naive {

using host::index_t;
using host::tokens;
using oracle::vec;

/// One kv_head of one layer.
struct head {
  std::vector<index_t> cached;          ///< positions, ascending
  std::vector<vec> sums;                ///< [group][cached]: what all rows gave
  std::vector<std::vector<vec>> given;  ///< [newest rows][group][cached]: what each row gave when it passed
};

struct cache {
  const tokens* of;
  std::vector<head> heads;
  index_t seen = 0;
  std::function<double(index_t)> gain = oracle::one;  ///< of the running sums, by tokens seen
  double decay = 1;

  explicit cache(const tokens& from) : of(&from), heads(std::size_t(from.shape.rows())) {
    for (head& h : heads) h.sums.resize(std::size_t(from.group));
  }

  /// Weights of the query at position p over the cached positions up to p; the others get 0.
  [[nodiscard]] vec attention(index_t row, index_t g, index_t p, double with_gain) const {
    const head& h = heads[std::size_t(row)];
    vec w(h.cached.size(), 0.0);
    double total = 0;
    for (std::size_t j = 0; j < w.size() && h.cached[j] <= p; ++j) {
      double dot = 0;
      for (index_t d = 0; d < of->dim; ++d)
        dot += double(of->query(row, g, p)[d]) * double(of->key(row, h.cached[j])[d]);
      total += w[j] = std::exp(with_gain * dot / std::sqrt(double(of->dim)));
    }
    for (double& x : w) x /= total > 0 ? total : 1;
    return w;
  }

  void append() {
    const index_t p = seen++;
    for (std::size_t r = 0; r < heads.size(); ++r) {
      head& h = heads[r];
      h.cached.push_back(p);
      std::vector<vec> row;
      for (index_t g = 0; g < of->group; ++g) {
        vec& s = h.sums[std::size_t(g)];
        s.push_back(0);
        const vec a = attention(index_t(r), g, p, gain(p + 1));
        for (std::size_t j = 0; j < s.size(); ++j) s[j] = decay * s[j] + a[j];
        row.push_back(attention(index_t(r), g, p, 1));
      }
      for (auto& older : h.given)
        for (vec& a : older) a.push_back(0);
      h.given.push_back(std::move(row));
      if (h.given.size() > 64) h.given.erase(h.given.begin());
    }
  }
  void keep(std::size_t row, const std::vector<index_t>& slots) {
    head& h = heads[row];
    const auto pick = [&](auto& x) {
      std::remove_cvref_t<decltype(x)> left;
      for (const index_t s : slots) left.push_back(x[std::size_t(s)]);
      x = left;
    };
    pick(h.cached);
    for (vec& s : h.sums) pick(s);
    for (auto& row_of : h.given)
      for (vec& a : row_of) pick(a);
  }

  /// Sum over the last `window` tokens of what their queries give to the keys cached now, mean over the group; `by` is
  /// a gain by tokens seen, `weight` one by age.
  [[nodiscard]] vec window_sum(index_t row, index_t window, const std::function<double(index_t)>& by = oracle::one,
                               const std::function<double(index_t)>& weight = oracle::one) const {
    std::vector<vec> group;
    for (index_t g = 0; g < of->group; ++g) {
      vec s(heads[std::size_t(row)].cached.size(), 0.0);
      for (index_t p = std::max(0, seen - window); p < seen; ++p) {
        const vec a = attention(row, g, p, by(p + 1));
        for (std::size_t j = 0; j < s.size(); ++j) s[j] += weight(seen - 1 - p) * a[j];
      }
      group.push_back(s);
    }
    return oracle::group_mean(group);
  }
  /// The same of what they gave when they passed.
  [[nodiscard]] vec given_sum(index_t row, index_t window) const {
    const head& h = heads[std::size_t(row)];
    std::vector<vec> group;
    for (index_t g = 0; g < of->group; ++g) {
      vec s(h.cached.size(), 0.0);
      for (std::size_t i = h.given.size() - std::min(h.given.size(), std::size_t(window)); i < h.given.size(); ++i)
        for (std::size_t j = 0; j < s.size(); ++j) s[j] += h.given[i][std::size_t(g)][j];
      group.push_back(s);
    }
    return oracle::group_mean(group);
  }
  [[nodiscard]] vec prior(index_t row, index_t width) const {
    vec norms;
    for (const index_t p : heads[std::size_t(row)].cached) {
      double n = 0;
      for (index_t d = 0; d < of->value_dim; ++d) n += std::pow(double(of->value(row, p)[d]), 2);
      norms.push_back(n);
    }
    vec pooled = oracle::average(norms, width, index_t(norms.size()));
    const double top = *std::max_element(pooled.begin(), pooled.end());
    for (double& x : pooled) x /= top;
    return pooled;
  }
};

/// A published decode rule: scores of one row, protection, budgets.
struct rule {
  std::function<vec(const cache&, index_t row)> score;
  std::function<index_t(index_t layer)> budget;
  index_t sinks = 0, recent = 0;
  bool joint = false;
  double floor = 0;
  kvevict::budget::safeguard kind = kvevict::budget::safeguard::mixture;
};

/// What each row keeps, as slots.
inline std::vector<std::vector<index_t>> choose(const cache& c, const rule& by) {
  const index_t kv_heads = c.of->shape.kv_heads;
  std::vector<std::vector<index_t>> out;
  for (index_t layer = 0; layer < c.of->shape.layers; ++layer) {
    std::vector<oracle::pool_row> pool;
    std::vector<index_t> budgets;
    for (index_t h = 0; h < kv_heads; ++h) {
      const vec s = by.score(c, layer * kv_heads + h);
      const auto n = index_t(s.size());
      const index_t nominal = by.budget(layer), sinks = std::min(by.sinks, n);
      pool.push_back({{s.begin(), s.end()}, nominal, sinks, std::min(by.recent, n - sinks)});
      budgets.push_back(std::min(n, nominal));
    }
    if (by.joint) budgets = oracle::adaptive(pool, by.floor, by.kind);
    for (std::size_t h = 0; h < pool.size(); ++h)
      out.push_back(oracle::select(pool[h].scores, budgets[h], pool[h].sinks, pool[h].recent));
  }
  return out;
}

}  // namespace naive
