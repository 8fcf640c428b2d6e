// SPDX-License-Identifier: MIT
#include <Eigen/Core>
#include <cmath>

#include "runs.hpp"

namespace {

using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using view = Eigen::Map<const matrix>;

struct sums {
  double mass = 0, difference = 0, output = 0, distance = 0;
};

}  // namespace

std::vector<std::vector<int>> layer_run::at(int step, int prompt) const {
  const eviction* last = &evictions.front();
  for (const eviction& e : evictions)
    if (e.after <= step) last = &e;
  std::vector<std::vector<int>> cached = last->retained;
  for (auto& head : cached)
    for (int t = last->after; t < step; ++t) head.push_back(prompt + t);
  return cached;
}

void evaluate(const layer_capture& c, int future, const std::vector<layer_run*>& runs) {
  const int group = c.query_heads / c.kv_heads, prompt = c.length - future, rows = future;
  std::vector<std::vector<sums>> by_head(static_cast<std::size_t>(c.query_heads), std::vector<sums>(runs.size()));

#pragma omp parallel for schedule(dynamic, 1)
  for (int h = 0; h < c.query_heads; ++h) {
    const std::int64_t kv = h / group;
    const view queries(c.queries.data() + (static_cast<std::int64_t>(h) * c.rows + (c.rows - rows)) * c.dim, rows,
                       c.dim);
    const view keys(c.keys.data() + kv * c.length * c.dim, c.length, c.dim);
    const view values(c.values.data() + kv * c.length * c.value_dim, c.length, c.value_dim);
    matrix weights = queries * keys.transpose() / std::sqrt(static_cast<float>(c.dim));
    for (int i = 0; i < rows; ++i) {
      const int visible = prompt + i + 1;
      auto seen = weights.row(i).head(visible).array();
      seen = (seen - seen.maxCoeff()).exp();
      seen /= seen.sum();
      weights.row(i).tail(c.length - visible).setZero();
    }
    const matrix output = weights * values;
    for (std::size_t r = 0; r < runs.size(); ++r) {
      // Between two evictions the rows see what the first left, and the tokens that came since.
      matrix kept_output(rows, c.value_dim);
      Eigen::VectorXf mass(rows);
      const std::vector<eviction>& evictions = runs[r]->evictions;
      for (std::size_t e = 0; e < evictions.size(); ++e) {
        const int first = evictions[e].after,
                  count = (e + 1 < evictions.size() ? evictions[e + 1].after : rows) - first;
        if (count < 1) continue;
        const std::vector<int>& slots = evictions[e].retained[static_cast<std::size_t>(kv)];
        const matrix retained = weights.middleRows(first, count)(Eigen::all, slots);
        const auto since = weights.block(first, prompt + first, count, count);
        kept_output.middleRows(first, count) =
            retained * matrix(values(slots, Eigen::all)) + since * values.middleRows(prompt + first, count);
        mass.segment(first, count) = retained.rowwise().sum() + since.rowwise().sum();
      }
      const matrix difference = mass.cwiseInverse().asDiagonal() * kept_output - output;
      by_head[static_cast<std::size_t>(h)][r] = {mass.cast<double>().sum(), difference.cast<double>().squaredNorm(),
                                                 output.cast<double>().squaredNorm(),
                                                 difference.cast<double>().lpNorm<1>()};
    }
  }

  const double largest_row =
      static_cast<double>(view(c.values.data(), static_cast<Eigen::Index>(c.kv_heads) * c.length, c.value_dim)
                              .cwiseAbs()
                              .rowwise()
                              .sum()
                              .maxCoeff());
  for (std::size_t r = 0; r < runs.size(); ++r) {
    sums all;
    for (const auto& head : by_head) {
      all.mass += head[r].mass;
      all.difference += head[r].difference;
      all.output += head[r].output;
      all.distance += head[r].distance;
    }
    const double weights = static_cast<double>(rows) * c.query_heads;
    runs[r]->mass = all.mass / weights;
    runs[r]->error = std::sqrt(all.difference / all.output);
    runs[r]->distance = all.distance / rows;
    runs[r]->bound = 2 * largest_row * std::max(0.0, weights - all.mass) / rows;
  }
}
