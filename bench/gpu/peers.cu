// SPDX-License-Identifier: MIT
#include <cub/device/device_segmented_sort.cuh>
#include <cub/version.cuh>

#include "score_inputs.cuh"

namespace measured {

timing measure_segmented_sort(index_t layers, index_t keys) {
  const index_t rows = layers * kv_heads;
  score_inputs in(rows, keys);
  const device::array<float> sorted(in.host.size());
  std::size_t bytes = 0;
  const auto sort = [&](void* scratch, std::size_t i, cudaStream_t stream) {
    device::require(cub::DeviceSegmentedSort::SortKeysDescending(scratch, bytes, in.scores[i]->data(), sorted.data(),
                                                                 static_cast<offset_t>(in.host.size()), rows,
                                                                 in.offsets.data(), in.offsets.data() + 1, stream),
                    "segmented sort");
  };
  sort(nullptr, 0, nullptr);
  const device::array<char> memory(bytes);
  timing time = replay(in.scores.size(), [&](std::size_t i, cudaStream_t stream) { sort(memory.data(), i, stream); });
  time.workspace_bytes = static_cast<offset_t>(bytes);
  return time;
}

std::string about_cub() {
  const std::string version = std::to_string(CUB_MAJOR_VERSION) + "." + std::to_string(CUB_MINOR_VERSION) + "." +
                              std::to_string(CUB_SUBMINOR_VERSION);
#if __has_include(<cub/device/device_batched_topk.cuh>)
  return "CUB " + version + " has a batched top-k, which is not measured here";
#else
  return "CUB " + version + " has no batched top-k";
#endif
}

}  // namespace measured
