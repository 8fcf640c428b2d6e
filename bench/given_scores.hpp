// SPDX-License-Identifier: MIT
#pragma once

#include "support.hpp"

namespace bench {

/// Scores as attention gives them: positive, most of them small.
struct given_scores {
  std::vector<float> scores;
  std::vector<offset_t> offsets{0};
  index_t length;

  explicit given_scores(index_t n) : length(n) {
    for (const float x : host::normal(std::size_t(kv_heads) * std::size_t(n), 4))
      scores.push_back(std::exp(3 * x - 12));
    for (index_t h = 0; h < kv_heads; ++h) offsets.push_back(offsets.back() + n);
  }
  [[nodiscard]] kvevict::row_scores in() const { return {{1, 1, kv_heads}, {scores.data(), offsets.data(), kv_heads}}; }
  [[nodiscard]] std::vector<float> head(index_t h) const {
    return {scores.begin() + offsets[std::size_t(h)], scores.begin() + offsets[std::size_t(h) + 1]};
  }
};

inline void score_sizes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"keys", "budget", "threads"})->UseRealTime()->Unit(benchmark::kMicrosecond);
  for (const std::int64_t threads : {1, all_threads()})
    for (const std::int64_t keys : {4096, 32768}) b->Args({keys, 1024, threads});
}

}  // namespace bench
