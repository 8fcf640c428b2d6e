// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/evict.cuh>

#include "model_cache.cuh"

/// Scoring as a step: run once and checked, then timed.
namespace measured {

/// `inputs_of(cache)` is what the policy reads of a model_cache.
template <class E, class Policy, class InputsOf>
[[nodiscard]] std::optional<timing> measure_scoring(const Policy& policy, index_t layers, index_t keys,
                                                    index_t query_rows, const parts& has, const InputsOf& inputs_of,
                                                    const row_check& right) {
  using namespace kvevict;
  using cache_type = model_cache<E>;
  std::vector<std::unique_ptr<cache_type>> caches{};
  const double bytes_of_one = static_cast<double>(layers) * kv_heads * keys * dims * sizeof(E) * (has.values ? 2 : 1);
  const std::size_t turns = turns_of(bytes_of_one);
  for (std::size_t i = 0; i < turns; ++i)
    caches.push_back(std::make_unique<cache_type>(layers, keys, query_rows, has, i + 1));
  const score_room room(layers * kv_heads, keys);
  const scratch memory(workspace_bytes(gpu{.longest = keys}, policy, inputs_of(*caches[0])));
  const auto score = [&](std::size_t i, cudaStream_t stream) {
    require(score_rows(gpu{stream, keys}, policy, inputs_of(*caches[i]), room.view(), memory.get()), "score_rows");
  };
  device::require(cudaDeviceSynchronize(), "inputs");
  score(0, nullptr);
  device::require(cudaDeviceSynchronize(), "score_rows");
  for (const offset_t r : {offset_t{0}, static_cast<offset_t>(room.rows) - 1})
    if (!right(caches[0]->row(r, room.scores.data()))) return {};
  timing time = replay(turns, score);
  time.workspace_bytes = memory.bytes();
  return time;
}

}  // namespace measured
