// SPDX-License-Identifier: MIT
// An engine that decodes on the device: one step of it (the new token's keys and values are appended, its queries
// observed, full rows evicted and compacted) is captured into a graph once and replayed for every token. The host knows
// extents only; lengths, positions and the policy's memory stay on the device. Heads get what they need (Ada-KV).
#include <cstdio>
#include <cstdlib>
#include <kvevict/cuda.cuh>
#include <vector>

using namespace kvevict;

constexpr index_t layers = 2, kv_heads = 4, query_heads = 8, dims = 64, own_budget = 96, every = 32;
constexpr index_t capacity = kv_heads * (own_budget + every);  // a head may take what the other heads leave
constexpr cache_shape shape{layers, 1, kv_heads};

void require(cudaError_t error) {
  if (error == cudaSuccess) return;
  std::printf("%s\n", cudaGetErrorString(error));
  std::exit(1);
}
void require(const status& s) {
  if (s.ok()) return;
  std::printf("%s: %s\n", s.argument, s.sentence);
  std::exit(1);
}

/// Memory of the device, which the operating system gives back at the end.
template <class T>
T* device_memory(offset_t count) {
  void* memory = nullptr;
  require(cudaMalloc(&memory, static_cast<std::size_t>(count) * sizeof(T)));
  require(cudaMemset(memory, 0, static_cast<std::size_t>(count) * sizeof(T)));
  return static_cast<T*>(memory);
}
workspace device_bytes(offset_t bytes) { return {device_memory<std::byte>(bytes), bytes}; }

/// What a model would give for token number `*token`, [heads][dims].
__global__ void model(const index_t* token, index_t salt, bfloat16* out) {
  const auto i = static_cast<index_t>(blockIdx.x * dims + threadIdx.x);
  const float x = sinf(0.37F * static_cast<float>((*token * 31 + static_cast<index_t>(threadIdx.x)) *
                                                  (salt + static_cast<index_t>(blockIdx.x)) % 1013));
  out[i] = bfloat16{static_cast<std::uint16_t>(__float_as_uint(2 * x) >> 16)};
}
__global__ void next_token(index_t* token) { ++*token; }

int main() {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::puts("skipped: no CUDA device; the captured graph was not run");
    return 77;
  }
  cudaStream_t stream{};
  require(cudaStreamCreate(&stream));
  auto* const token = device_memory<index_t>(1);
  auto* const lengths = device_memory<index_t>(shape.rows());
  auto* const new_keys = device_memory<bfloat16>(shape.rows() * dims);
  auto* const new_values = device_memory<bfloat16>(shape.rows() * dims);
  auto* const new_queries = device_memory<bfloat16>(offset_t{layers} * query_heads * dims);
  const strided room = hnd(1, kv_heads, capacity, dims), one = hnd(1, kv_heads, 1, dims);
  const cache view{shape, lengths, entries{device_memory<bfloat16>(shape.rows() * capacity * dims), room, dims},
                   entries{device_memory<bfloat16>(shape.rows() * capacity * dims), room, dims}};
  const cache added{shape, index_t{1}, entries{new_keys, one, dims}, entries{new_values, one, dims}};
  const inputs in{view, query_view{entries{new_queries, hnd(1, query_heads, 1, dims), dims}, query_heads, index_t{1}}};

  // ---- the glue ----
  const gpu on{.stream = stream, .longest = capacity};
  const adakv policy{ahakv<>{.budget = slots(own_budget), .window = 16}};
  const sequence_extent extent{.shape = shape, .capacity = capacity, .query_heads = query_heads, .head_dim = dims};
  const device_states states{policy, extent, device_bytes(state_bytes(policy, extent))};
  const workspace scratch = device_bytes(workspace_bytes(on, policy, states, in));
  const span<index_t> rows{lengths, shape.rows()};
  require(start(on, policy, extent, decode_state{states.bytes}));

  cudaGraph_t graph{};
  require(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed));  // kernels that never ran are loaded only now
  model<<<layers * kv_heads, dims, 0, stream>>>(token, 3, new_keys);
  model<<<layers * kv_heads, dims, 0, stream>>>(token, 5, new_values);
  model<<<layers * query_heads, dims, 0, stream>>>(token, 7, new_queries);
  require(append(on, added, view, rows));
  require(step(on, policy, states, in, rows, scratch, {.every = every}));
  next_token<<<1, 1, 0, stream>>>(token);
  require(cudaStreamEndCapture(stream, &graph));
  // ---- end of glue ----

  cudaGraphExec_t replay{};
  require(cudaGraphInstantiate(&replay, graph, 0));
  index_t seen = 0;
  for (const index_t until : {64, 512, 1000}) {
    for (; seen < until; ++seen) require(cudaGraphLaunch(replay, stream));
    std::vector<index_t> held(static_cast<std::size_t>(shape.rows()));
    require(cudaMemcpyAsync(held.data(), lengths, held.size() * sizeof(index_t), cudaMemcpyDeviceToHost, stream));
    require(cudaStreamSynchronize(stream));
    std::printf("%4d tokens seen; slots of the heads:", seen);
    for (std::size_t r = 0; r < held.size(); ++r) {
      std::printf(" %3d", held[r]);
      index_t of_layer = 0;
      for (std::size_t h = 0; h < kv_heads; ++h) of_layer += held[r / kv_heads * kv_heads + h];
      if (of_layer > kv_heads * (own_budget + every)) return std::puts(" more than their room"), 1;
    }
    std::puts("");
  }
  return 0;
}
