// SPDX-License-Identifier: MIT
#include "prompt.hpp"

#include <algorithm>

prompt::prompt(const llama& model, const std::vector<int>& tokens, int room)
    : config_(model.config()),
      tokens_(static_cast<int>(tokens.size())),
      cache_(config_.layers, config_.kv_heads, config_.dims, tokens_ + room) {
  const std::size_t sums = tokens.size() * static_cast<std::size_t>(config_.query_heads),
                    floats = sums * static_cast<std::size_t>(config_.dims);
  queries_.resize(floats * static_cast<std::size_t>(config_.layers));
  log_sum_exp_.resize(sums * static_cast<std::size_t>(config_.layers));
  model.forward(tokens, 0, cache_, 0, [&](const layer_rows& r) {
    std::copy_n(r.queries, floats, queries_.data() + static_cast<std::size_t>(r.layer) * floats);
    std::copy_n(r.log_sum_exp, sums, log_sum_exp_.data() + static_cast<std::size_t>(r.layer) * sums);
  });
}

layer_rows prompt::rows(int layer) const {
  const std::int64_t sums = std::int64_t{tokens_} * config_.query_heads;
  return {layer, tokens_, queries_.data() + layer * sums * config_.dims, log_sum_exp_.data() + layer * sums};
}
