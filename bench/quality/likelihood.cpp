// SPDX-License-Identifier: MIT
#include "likelihood.hpp"

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstdint>

namespace {

using row_view = Eigen::Map<const Eigen::ArrayXf>;

/// log of the sum of exp of a row; sums in double.
double log_sum_exp(const row_view& logits) {
  const float peak = logits.maxCoeff();
  return peak + std::log((logits - peak).exp().cast<double>().sum());
}

int most_probable(const row_view& logits) {
  Eigen::Index best = 0;
  logits.maxCoeff(&best);
  return static_cast<int>(best);
}

}  // namespace

full_predictions::full_predictions(const std::vector<float>& logits, std::vector<int> targets)
    : targets_(std::move(targets)),
      vocabulary_(static_cast<int>(logits.size() / targets_.size())),
      log_probabilities_(logits.size()) {
#pragma omp parallel for
  for (int i = 0; i < positions(); ++i) {
    const std::int64_t at = std::int64_t{i} * vocabulary_;
    const row_view row(logits.data() + at, vocabulary_);
    Eigen::Map<Eigen::ArrayXf>(log_probabilities_.data() + at, vocabulary_) =
        (row.cast<double>() - log_sum_exp(row)).cast<float>();
  }
}

comparison full_predictions::compare(const float* logits) const {
  struct position {
    double kld, nll;
    bool agrees, right;
  };
  std::vector<position> found(targets_.size());
#pragma omp parallel for
  for (int i = 0; i < positions(); ++i) {
    const std::int64_t at = std::int64_t{i} * vocabulary_;
    const row_view row(logits + at, vocabulary_), full(log_probabilities_.data() + at, vocabulary_);
    const double sum = log_sum_exp(row);
    const int target = targets_[static_cast<std::size_t>(i)], best = most_probable(row);
    const double kld = (full.exp().cast<double>() * (full.cast<double>() - row.cast<double>() + sum)).sum();
    found[static_cast<std::size_t>(i)] = {kld, sum - static_cast<double>(row[target]), best == most_probable(full),
                                          best == target};
  }
  comparison mean{.exact = true};
  const auto count = static_cast<double>(found.size());
  for (const position& p : found) {
    mean.kld += p.kld / count;
    mean.log_kld += std::log(std::max(p.kld, 1e-10)) / count;
    mean.nll += p.nll / count;
    mean.agreement += p.agrees / count;
    mean.accuracy += p.right / count;
    mean.exact = mean.exact && p.right;
  }
  return mean;
}
