// SPDX-License-Identifier: MIT
#include <kvevict/cuda/decode.cuh>

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

namespace {

/// out[head][d] = all[head][*token][d]
__global__ void take_token(const bfloat16* all, index_t count, index_t dims, const index_t* token, bfloat16* out) {
  for (index_t d = static_cast<index_t>(threadIdx.x); d < dims; d += static_cast<index_t>(blockDim.x))
    out[blockIdx.x * dims + d] = all[(static_cast<offset_t>(blockIdx.x) * count + *token) * dims + d];
}
__global__ void next_token(index_t* token) { ++*token; }

template <class T>
workspace bytes_of(const device::array<T>& a) {
  return {reinterpret_cast<std::byte*>(a.data()), static_cast<offset_t>(a.size() * sizeof(T))};
}

}  // namespace

template <class Policy>
decoded decode(const Policy& policy, const decode_life& life) {
  const offset_t rows = life.shape.rows();
  const index_t query_heads = life.shape.kv_heads * life.group;
  const auto width = static_cast<std::size_t>(life.dims);
  const device::array<bfloat16> keys(life.keys), values(life.values), queries(life.queries);
  const device::array<bfloat16> new_keys(static_cast<std::size_t>(rows) * width), new_values(new_keys.size()),
      new_queries(new_keys.size() * static_cast<std::size_t>(life.group));
  const device::array<bfloat16> cached_keys(new_keys.size() * static_cast<std::size_t>(life.capacity)),
      cached_values(cached_keys.size());
  const device::array<index_t> lengths(std::vector<index_t>(static_cast<std::size_t>(rows), 0)),
      token(std::vector<index_t>(1, 0));
  const strided room = hnd(1, life.shape.kv_heads, life.capacity, life.dims);
  const strided one = hnd(1, life.shape.kv_heads, 1, life.dims);
  const cache view{life.shape, lengths.data(), entries{cached_keys.data(), room, life.dims},
                   entries{cached_values.data(), room, life.dims}};
  const cache added{life.shape, index_t{1}, entries{new_keys.data(), one, life.dims},
                    entries{new_values.data(), one, life.dims}};
  const inputs in{view, query_view{entries{new_queries.data(), hnd(1, query_heads, 1, life.dims), life.dims},
                                   query_heads, index_t{1}}};
  const sequence_extent extent{
      .shape = life.shape, .capacity = life.capacity, .query_heads = query_heads, .head_dim = life.dims};
  const device::array<cache_line> state(cache_lines(state_bytes(policy, extent)));
  const device_states states{policy, extent, bytes_of(state)};
  cudaStream_t stream{};
  device::require(cudaStreamCreate(&stream), "stream");
  const gpu on{.stream = stream, .longest = life.capacity};
  const device::array<cache_line> scratch(cache_lines(workspace_bytes(on, policy, states, in)));
  const span<index_t> of_rows{lengths.data(), rows};

  bool ok = start(on, policy, extent, decode_state{bytes_of(state)}).ok();
  cudaGraph_t graph{};
  cudaGraphExec_t step{};
  device::require(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "begin capture");
  const auto heads = static_cast<unsigned>(rows);
  take_token<<<heads, 64, 0, stream>>>(keys.data(), life.count, life.dims, token.data(), new_keys.data());
  take_token<<<heads, 64, 0, stream>>>(values.data(), life.count, life.dims, token.data(), new_values.data());
  take_token<<<heads* static_cast<unsigned>(life.group), 64, 0, stream>>>(queries.data(), life.count, life.dims,
                                                                          token.data(), new_queries.data());
  ok = ok && append(on, added, view, of_rows).ok();
  ok = ok && observe(on, policy, states, in, bytes_of(scratch)).ok();
  ok = ok && evict_in_place(on, policy, states, in, of_rows, bytes_of(scratch), {.every = life.every}).ok();
  next_token<<<1, 1, 0, stream>>>(token.data());
  device::require(cudaStreamEndCapture(stream, &graph), "end capture");
  device::require(cudaGraphInstantiate(&step, graph, 0), "instantiate");
  decoded result;
  for (index_t t = 0; t < life.count; ++t) {
    device::require(cudaGraphLaunch(step, stream), "graph");
    device::require(cudaStreamSynchronize(stream), "run");
    result.states.push_back(state.host());
  }
  result.keys = cached_keys.host();
  cudaGraphExecDestroy(step);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
  return ok ? result : decoded{};
}

template decoded decode(const streaming_llm&, const decode_life&);
template decoded decode(const h2o&, const decode_life&);
template decoded decode(const tova&, const decode_life&);
template decoded decode(const snapkv<>&, const decode_life&);
template decoded decode(const adakv<ahakv<>>&, const decode_life&);

status one_eviction(const workspace& states, const workspace& memory, index_t* lengths, index_t every) {
  const cache_shape shape{.kv_heads = 2};
  bfloat16 element{};
  const cache view{shape, index_t{4}, entries{&element, hnd(1, 2, 8, 4), 4}, entries{&element, hnd(1, 2, 8, 4), 4}};
  const sequence_extent extent{.shape = shape, .capacity = 8, .query_heads = 2, .head_dim = 4};
  const knorm policy{.budget = slots(4)};
  return evict_in_place(gpu{.longest = 8}, policy, device_states{policy, extent, states}, inputs{view},
                        {lengths, shape.rows()}, memory, {.every = every});
}

}  // namespace on_device
