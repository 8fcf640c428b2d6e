// SPDX-License-Identifier: MIT
#include <kvevict/cuda/select.cuh>

#include "score_inputs.cuh"

namespace measured {

using namespace kvevict;

namespace {

template <class Policy>
selection_run run_selection(const Policy& policy, index_t layers, index_t keys) {
  const cache_shape shape{.layers = layers, .kv_heads = kv_heads};
  const auto rows = static_cast<index_t>(shape.rows());
  score_inputs in(rows, keys);
  const device::array<offset_t> offsets(static_cast<std::size_t>(rows) + 1);
  const device::array<index_t> kept_slots(static_cast<std::size_t>(rows) * kept);
  const auto given = [&](std::size_t i) { return row_scores{shape, {in.scores[i]->data(), in.offsets.data(), rows}}; };
  const scratch memory(workspace_bytes(gpu{}, policy, given(0)));
  const selection out{{kept_slots.data(), static_cast<offset_t>(kept_slots.size())}, {offsets.data(), rows + 1}};
  selection_run result;
  result.time = replay(in.scores.size(), [&](std::size_t i, cudaStream_t stream) {
    require(select(gpu{stream}, policy, given(i), out, memory.get()), "select");
  });
  result.time.workspace_bytes = memory.bytes();
  result.offsets = offsets.host();
  result.slots = kept_slots.host();
  result.scores = std::move(in.host);
  return result;
}

}  // namespace

selection_run measure_selection(index_t layers, index_t keys, bool joint) {
  const snapkv<> each{.budget = slots(kept), .recent = 0};
  return joint ? run_selection(adakv{each}, layers, keys) : run_selection(each, layers, keys);
}

}  // namespace measured
