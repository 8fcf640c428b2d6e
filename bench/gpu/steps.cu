// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cmath>
#include <cub/device/device_segmented_sort.cuh>
#include <kvevict/cuda/select.cuh>
#include <kvevict/kvevict.hpp>
#include <memory>
#include <random>

#include "../../tests/support/device.hpp"
#include "steps.hpp"

using namespace kvevict;

namespace steps {
namespace {

constexpr int replays = 50;
constexpr std::size_t beyond_caches = std::size_t{200} << 20;

__global__ void nothing() {}

/// Median time of graphs that take turns; `record(i, stream)` puts call i into a stream.
template <class Record>
timing replay(std::size_t inputs, const Record& record) {
  cudaStream_t stream{};
  cudaEvent_t begin{}, end{};
  device::require(cudaStreamCreate(&stream), "stream");
  device::require(cudaEventCreate(&begin), "event");
  device::require(cudaEventCreate(&end), "event");
  timing result;
  std::vector<cudaGraphExec_t> graphs(inputs);
  for (std::size_t i = 0; i < inputs; ++i) {
    cudaGraph_t graph{};
    device::require(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "begin capture");
    record(i, stream);
    device::require(cudaStreamEndCapture(stream, &graph), "end capture");
    std::size_t nodes = 0;
    device::require(cudaGraphGetNodes(graph, nullptr, &nodes), "nodes");
    result.launches = static_cast<int>(nodes);
    device::require(cudaGraphInstantiate(&graphs[i], graph, 0), "instantiate");
    cudaGraphDestroy(graph);
    device::require(cudaGraphLaunch(graphs[i], stream), "warm up");
  }
  std::vector<float> milliseconds;
  for (int r = 0; r < replays; ++r) {
    device::require(cudaEventRecord(begin, stream), "record");
    device::require(cudaGraphLaunch(graphs[static_cast<std::size_t>(r) % inputs], stream), "launch");
    device::require(cudaEventRecord(end, stream), "record");
    device::require(cudaEventSynchronize(end), "run");
    float time = 0;
    device::require(cudaEventElapsedTime(&time, begin, end), "time");
    milliseconds.push_back(time);
  }
  std::nth_element(milliseconds.begin(), milliseconds.begin() + replays / 2, milliseconds.end());
  result.median_seconds = static_cast<double>(milliseconds[replays / 2]) / 1e3;
  for (cudaGraphExec_t graph : graphs) cudaGraphExecDestroy(graph);
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  cudaStreamDestroy(stream);
  return result;
}

/// Scores as attention gives them: a few large, most tiny.
std::vector<float> attention_like(std::size_t count, std::uint32_t seed) {
  std::mt19937 chance(seed);
  std::normal_distribution<float> logit(0, 3);
  std::vector<float> scores(count);
  for (float& s : scores) s = std::exp(logit(chance)) * 1e-4F;
  return scores;
}

/// The rows of several inputs: the first has scores of its own, the others are copies elsewhere in memory.
struct score_inputs {
  std::vector<float> host;
  std::vector<offset_t> host_offsets;
  std::vector<std::unique_ptr<device::array<float>>> scores;
  std::unique_ptr<device::array<offset_t>> offsets;

  score_inputs(index_t rows, index_t keys) : host(attention_like(static_cast<std::size_t>(rows) * keys, 1)) {
    for (index_t r = 0; r <= rows; ++r) host_offsets.push_back(static_cast<offset_t>(r) * keys);
    offsets = std::make_unique<device::array<offset_t>>(host_offsets);
    const std::size_t turns = std::min<std::size_t>(32, 1 + beyond_caches / (host.size() * sizeof(float)));
    for (std::size_t i = 0; i < turns; ++i) scores.push_back(std::make_unique<device::array<float>>(host));
  }
};

template <class Policy>
selection_run run_selection(const Policy& policy, index_t layers, index_t keys, index_t keep) {
  const cache_shape shape{.layers = layers, .kv_heads = kv_heads};
  const auto rows = static_cast<index_t>(shape.rows());
  score_inputs in(rows, keys);
  const device::array<offset_t> offsets(static_cast<std::size_t>(rows) + 1);
  const device::array<index_t> slots(static_cast<std::size_t>(rows) * keep);
  const auto given = [&](std::size_t i) { return row_scores{shape, {in.scores[i]->data(), in.offsets->data(), rows}}; };
  selection_run result;
  const offset_t bytes = workspace_bytes(gpu{}, policy, given(0));
  const device::array<cache_line> scratch(cache_lines(bytes));
  const selection out{{slots.data(), static_cast<offset_t>(slots.size())},
                      {offsets.data(), static_cast<offset_t>(offsets.size())}};
  result.time = replay(in.scores.size(), [&](std::size_t i, cudaStream_t stream) {
    const status s = select(gpu{stream}, policy, given(i), out, {reinterpret_cast<std::byte*>(scratch.data()), bytes});
    if (!s.ok()) device::require(cudaErrorInvalidValue, s.sentence);
  });
  result.time.workspace_bytes = bytes;
  result.offsets = offsets.host();
  result.slots = slots.host();
  result.scores = std::move(in.host);
  return result;
}

}  // namespace

ceilings measure_ceilings() {
  ceilings result;
  int at = 0;
  cudaDeviceProp properties{};
  device::require(cudaGetDevice(&at), "device");
  device::require(cudaGetDeviceProperties(&properties, at), "device");
  result.device = properties.name;
  const std::size_t bytes = std::size_t{1} << 30;
  const device::array<char> from(bytes), to(bytes);
  result.copy_bytes_per_second =
      2.0 * static_cast<double>(bytes) /
      replay(1, [&](std::size_t, cudaStream_t stream) {
        device::require(cudaMemcpyAsync(to.data(), from.data(), bytes, cudaMemcpyDeviceToDevice, stream), "copy");
      }).median_seconds;
  result.empty_node_seconds =
      replay(1, [](std::size_t, cudaStream_t stream) { nothing<<<1, 32, 0, stream>>>(); }).median_seconds;
  return result;
}

selection_run measure_selection(index_t layers, index_t keys, index_t keep, bool joint) {
  const snapkv<> each{.budget = slots(keep), .recent = 0};
  return joint ? run_selection(adakv{each}, layers, keys, keep) : run_selection(each, layers, keys, keep);
}

double measure_segmented_sort(index_t layers, index_t keys) {
  const index_t rows = layers * kv_heads;
  score_inputs in(rows, keys);
  const device::array<float> sorted(in.host.size());
  std::size_t bytes = 0;
  const auto sort = [&](void* scratch, std::size_t i, cudaStream_t stream) {
    device::require(cub::DeviceSegmentedSort::SortKeysDescending(scratch, bytes, in.scores[i]->data(), sorted.data(),
                                                                 static_cast<offset_t>(in.host.size()), rows,
                                                                 in.offsets->data(), in.offsets->data() + 1, stream),
                    "segmented sort");
  };
  sort(nullptr, 0, nullptr);
  const device::array<char> scratch(bytes);
  return replay(in.scores.size(), [&](std::size_t i, cudaStream_t stream) { sort(scratch.data(), i, stream); })
      .median_seconds;
}

}  // namespace steps
