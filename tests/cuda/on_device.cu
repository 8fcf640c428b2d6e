// SPDX-License-Identifier: MIT
#include <kvevict/cuda/select.cuh>

#include "../support/device.hpp"
#include "on_device.hpp"

using namespace kvevict;

namespace on_device {

bool found() { return device::found(); }

template <class Policy>
kept_slots select(const Policy& policy, const scored_rows& in, int runs, bool captured) {
  const device::array<float> scores(in.scores);
  const device::array<offset_t> offsets(in.offsets), out_offsets(in.offsets.size());
  const device::array<index_t> slots(in.scores.size());
  const auto rows = static_cast<index_t>(in.shape.rows());
  const row_scores given{in.shape, {scores.data(), offsets.data(), rows}};
  cudaStream_t stream{};
  device::require(cudaStreamCreate(&stream), "stream");
  const gpu on{stream};
  const device::array<cache_line> scratch(cache_lines(workspace_bytes(on, policy, given)));
  const workspace memory{reinterpret_cast<std::byte*>(scratch.data()),
                         static_cast<offset_t>(scratch.size() * sizeof(cache_line))};
  const selection out{{slots.data(), static_cast<offset_t>(slots.size())},
                      {out_offsets.data(), static_cast<offset_t>(out_offsets.size())}};
  bool ok = true;
  if (captured) {
    cudaGraph_t graph{};
    cudaGraphExec_t ready{};
    device::require(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "begin capture");
    ok = ok && kvevict::select(on, policy, given, out, memory).ok();
    device::require(cudaStreamEndCapture(stream, &graph), "end capture");
    device::require(cudaGraphInstantiate(&ready, graph, 0), "instantiate");
    for (int i = 0; i < runs; ++i) device::require(cudaGraphLaunch(ready, stream), "graph");
    device::require(cudaStreamSynchronize(stream), "run");
    cudaGraphExecDestroy(ready);
    cudaGraphDestroy(graph);
  } else {
    for (int i = 0; i < runs; ++i) ok = ok && kvevict::select(on, policy, given, out, memory).ok();
    device::require(cudaStreamSynchronize(stream), "run");
  }
  cudaStreamDestroy(stream);
  if (!ok) return {};
  kept_slots result{out_offsets.host(), slots.host()};
  result.slots.resize(static_cast<std::size_t>(result.offsets.back()));
  return result;
}

template kept_slots select(const snapkv<>&, const scored_rows&, int, bool);
template kept_slots select(const pyramidkv<>&, const scored_rows&, int, bool);
template kept_slots select(const adakv<snapkv<>>&, const scored_rows&, int, bool);

status one_call(const row_scores& in, const selection& out, const workspace& memory) {
  return kvevict::select(gpu{}, adakv{snapkv<>{}}, in, out, memory);
}
offset_t needed_workspace(const row_scores& in) { return workspace_bytes(gpu{}, adakv{snapkv<>{}}, in); }

}  // namespace on_device
