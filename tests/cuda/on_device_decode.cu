// SPDX-License-Identifier: MIT
#include <kvevict/cuda/decode.cuh>

#include "../support/device.hpp"
#include "on_device_decode.hpp"

using namespace kvevict;

namespace on_device {
namespace {

/// out[head][d] = all[head][*token][d]
__global__ void take_token(const bfloat16* all, index_t count, index_t dims, const index_t* token, bfloat16* out) {
  for (index_t d = static_cast<index_t>(threadIdx.x); d < dims; d += static_cast<index_t>(blockDim.x))
    out[blockIdx.x * dims + d] = all[(static_cast<offset_t>(blockIdx.x) * count + *token) * dims + d];
}
__global__ void next_token(index_t* token) { ++*token; }

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
  const device_states states{policy, extent, workspace_of(state)};
  cudaStream_t stream{};
  device::require(cudaStreamCreate(&stream), "stream");
  const gpu on{.stream = stream, .longest = life.capacity};
  const device::array<cache_line> scratch(cache_lines(workspace_bytes(on, policy, states, in)));
  const span<index_t> of_rows{lengths.data(), rows};

  bool ok = start(on, policy, extent, decode_state{workspace_of(state)}).ok();
  cudaGraph_t graph{};
  cudaGraphExec_t replay{};
  // Relaxed: these kernels have not run yet, and may be loaded only now.
  device::require(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed), "begin capture");
  const auto heads = static_cast<unsigned>(rows);
  take_token<<<heads, 64, 0, stream>>>(keys.data(), life.count, life.dims, token.data(), new_keys.data());
  take_token<<<heads, 64, 0, stream>>>(values.data(), life.count, life.dims, token.data(), new_values.data());
  take_token<<<heads* static_cast<unsigned>(life.group), 64, 0, stream>>>(queries.data(), life.count, life.dims,
                                                                          token.data(), new_queries.data());
  ok = ok && append(on, added, view, of_rows).ok();
  const eviction_pace pace{.every = life.every};
  if (life.in_one) {
    ok = ok && step(on, policy, states, in, of_rows, workspace_of(scratch), pace).ok();
  } else {
    ok = ok && observe(on, policy, states, in, workspace_of(scratch)).ok();
    ok = ok && evict_in_place(on, policy, states, in, of_rows, workspace_of(scratch), pace).ok();
  }
  next_token<<<1, 1, 0, stream>>>(token.data());
  device::require(cudaStreamEndCapture(stream, &graph), "end capture");
  device::require(cudaGraphInstantiate(&replay, graph, 0), "instantiate");
  decoded result;
  for (index_t t = 0; t < life.count; ++t) {
    device::require(cudaGraphLaunch(replay, stream), "graph");
    device::require(cudaStreamSynchronize(stream), "run");
    result.states.push_back(state.host());
  }
  result.keys = cached_keys.host();
  cudaGraphExecDestroy(replay);
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
