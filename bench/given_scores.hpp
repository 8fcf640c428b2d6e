// SPDX-License-Identifier: MIT
#pragma once

#include "support.hpp"

namespace bench {

/// Scores as attention gives them: positive, most of them small.
struct given_scores {
  std::vector<float> scores;
  std::vector<offset_t> offsets{0};
  index_t layers, length;

  given_scores(index_t count, index_t n) : layers(count), length(n) {
    for (const float x : host::normal(std::size_t(rows()) * std::size_t(n), 4)) scores.push_back(std::exp(3 * x - 12));
    for (index_t r = 0; r < rows(); ++r) offsets.push_back(offsets.back() + n);
  }
  [[nodiscard]] index_t rows() const { return layers * kv_heads; }
  [[nodiscard]] kvevict::row_scores in() const {
    return {{layers, 1, kv_heads}, {scores.data(), offsets.data(), rows()}};
  }
  [[nodiscard]] std::vector<float> row(index_t r) const {
    return {scores.begin() + offsets[std::size_t(r)], scores.begin() + offsets[std::size_t(r) + 1]};
  }
};

inline void score_sizes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"layers", "keys", "budget", "threads"})->UseRealTime()->Unit(benchmark::kMicrosecond);
  for (const std::int64_t layers : {1, 32})
    for (const std::int64_t threads : {1, all_threads()})
      for (const std::int64_t keys : {4096, 32768}) b->Args({layers, keys, 1024, threads});
}

}  // namespace bench
