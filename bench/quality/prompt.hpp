// SPDX-License-Identifier: MIT
#pragma once

#include <llama.hpp>

/// A prompt that has run with the full cache, and all that a policy may look at: the cache, the queries of all rows and
/// the log-sum-exp of their logits, of every layer.
class prompt {
 public:
  /// `room` slots more than the prompt has tokens are left in the cache.
  prompt(const llama& model, const std::vector<int>& tokens, int room);

  [[nodiscard]] int tokens() const { return tokens_; }
  [[nodiscard]] kv_memory& cache() { return cache_; }
  /// What the rows of some layers give to a policy, or those of all.
  [[nodiscard]] auto inputs(int first_layer, int layers) {
    using namespace kvevict;
    const int heads = config_.query_heads, dims = config_.dims;
    const offset_t sums_of_layer = offset_t{tokens_} * heads;
    const strided order{.layer = sums_of_layer * dims, .head = dims, .slot = heads * dims};
    const strided sums{.layer = sums_of_layer, .head = tokens_, .slot = 1};
    return kvevict::inputs{
        cache_.view(first_layer, config_.layers, layers),
        query_view{entries{queries_.data() + first_layer * order.layer, order, dims}, heads, tokens_},
        log_sum_exp_view{log_sum_exp_.data() + first_layer * sums.layer, sums}};
  }
  [[nodiscard]] auto inputs() { return inputs(0, config_.layers); }
  /// One layer's rows, as an evictor takes them while a prompt runs.
  [[nodiscard]] layer_rows rows(int layer) const;

 private:
  llama_config config_;
  int tokens_;
  kv_memory cache_;
  std::vector<float> queries_;      // [layers][tokens][query_heads][dims]
  std::vector<float> log_sum_exp_;  // [layers][query_heads][tokens]
};
