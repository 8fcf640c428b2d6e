// SPDX-License-Identifier: MIT
#include <kvevict/cuda/evict.cuh>

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

template <class Policy, class Element>
evicted_rows evict(const Policy& policy, const cache_rows<Element>& in) {
  const auto rows = static_cast<index_t>(in.shape.rows());
  const device::array<Element> keys(in.keys), values(in.values), queries(in.queries);
  const device::array<index_t> lengths(in.lengths), query_rows(in.query_rows);
  const strided order = hnd(in.shape.seqs, in.shape.kv_heads, in.most, in.dims);
  const strided query_order = hnd(in.shape.seqs, in.shape.kv_heads * in.group, in.most, in.dims);
  const cache view{in.shape, row_lengths(lengths.data()), entries{keys.data(), order, in.dims},
                   entries{values.data(), order, in.dims}};
  const inputs given{view, query_view{entries{queries.data(), query_order, in.dims}, in.shape.kv_heads * in.group,
                                      row_lengths(query_rows.data())}};
  const gpu on{.longest = in.most};
  const offset_t bytes = workspace_bytes(on, policy, given);
  const device::array<cache_line> scratch(cache_lines(bytes));
  const workspace memory{reinterpret_cast<std::byte*>(scratch.data()), bytes};

  std::vector<offset_t> score_offsets{0};
  for (const index_t length : in.lengths) score_offsets.push_back(score_offsets.back() + length);
  const device::array<offset_t> given_offsets(score_offsets), offsets(score_offsets.size());
  const device::array<float> scores(static_cast<std::size_t>(score_offsets.back()));
  const device::array<index_t> kept(scores.size());
  const selection out{{kept.data(), static_cast<offset_t>(kept.size())}, {offsets.data(), rows + 1}};
  if (!score_rows(on, policy, given, {scores.data(), given_offsets.data(), rows}, memory).ok()) return {};
  if (!kvevict::evict(on, policy, given, out, memory).ok()) return {};
  device::require(cudaDeviceSynchronize(), "run");
  evicted_rows result{scores.host(), offsets.host(), kept.host()};
  result.slots.resize(static_cast<std::size_t>(result.offsets.back()));
  return result;
}

template evicted_rows evict(const snapkv<>&, const cache_rows<bfloat16>&);
template evicted_rows evict(const adakv<ahakv<>>&, const cache_rows<bfloat16>&);
template evicted_rows evict(const h2o&, const cache_rows<half>&);
template evicted_rows evict(const tova&, const cache_rows<float>&);
template evicted_rows evict(const keydiff&, const cache_rows<float>&);

status one_call(const row_scores& in, const selection& out, const workspace& memory) {
  return kvevict::select(gpu{}, adakv{snapkv<>{}}, in, out, memory);
}
offset_t needed_workspace(const row_scores& in) { return workspace_bytes(gpu{}, adakv{snapkv<>{}}, in); }

}  // namespace on_device
