// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <memory>
#include <random>

#include "model_cache.cuh"
#include "selecting.hpp"

/// Scores that are given: what selection and its peers work on.
namespace measured {

/// Scores as attention gives them: a few large, most tiny.
[[nodiscard]] inline std::vector<float> attention_like(std::size_t count) {
  std::mt19937 chance(1);
  std::normal_distribution<float> logit(0, 3);
  std::vector<float> scores(count);
  for (float& s : scores) s = std::exp(logit(chance)) * 1e-4F;
  return scores;
}

/// The rows of several inputs: copies elsewhere in memory.
struct score_inputs {
  index_t rows;
  std::vector<float> host;
  device::array<offset_t> offsets;
  std::vector<std::unique_ptr<device::array<float>>> scores{};

  score_inputs(index_t row_count, index_t keys)
      : rows(row_count),
        host(attention_like(static_cast<std::size_t>(row_count) * static_cast<std::size_t>(keys))),
        offsets(score_room::steps(row_count, keys)) {
    const std::size_t turns = turns_of(static_cast<double>(host.size()) * sizeof(float));
    for (std::size_t i = 0; i < turns; ++i) scores.push_back(std::make_unique<device::array<float>>(host));
  }
};

}  // namespace measured
