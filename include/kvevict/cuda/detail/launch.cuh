// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime.h>

#include <kvevict/core/status.hpp>
#include <kvevict/cuda/backend.cuh>
#include <kvevict/cuda/detail/device_block.cuh>

namespace kvevict::detail {

/// Blocks that a multiprocessor shall run side by side: one, unless a body says more (`blocks_together`). Registers
/// follow from that; unless told, the compiler would keep some in memory to have room for one block more.
template <class Body>
[[nodiscard]] constexpr int blocks_together_of() {
  if constexpr (requires { Body::blocks_together; })
    return Body::blocks_together;
  else
    return 1;
}

/// A kernel runs `body(block)` on every block. `Body` is a value that holds its arguments.
template <int Threads, class Body>
__global__ void __launch_bounds__(Threads, blocks_together_of<Body>()) run_kernel(const Body body) {
  extern __shared__ __align__(16) std::byte shared_memory[];
  device_block<Threads> block(shared_memory);
  body(block);
}

[[nodiscard]] inline status status_of(cudaError_t error) {
  if (error == cudaSuccess) return {};
  return {status_code::device_error, "stream", cudaGetErrorString(error)};
}

/// Blocks of a team: a cluster where the device has them and the code was compiled for it, else a block alone.
template <int Threads, class Body>
[[nodiscard]] status team_size_of(int wanted, int& size) {
  size = 1;
  if (wanted == 1) return {};
  cudaFuncAttributes attributes{};
  const status s = status_of(cudaFuncGetAttributes(&attributes, &run_kernel<Threads, Body>));
  if (s.ok() && attributes.ptxVersion >= 90 && attributes.binaryVersion >= 90) size = wanted;
  return s;
}

/// Lets the kernel have that much shared memory per block: beyond what every device has, it must be asked for.
template <int Threads, class Body>
[[nodiscard]] status allow_shared(offset_t bytes) {
  if (bytes <= 48 * 1024) return {};
  return status_of(cudaFuncSetAttribute(&run_kernel<Threads, Body>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                        static_cast<int>(bytes)));
}

/// Puts `body` into the stream, `blocks` blocks, or as many teams of `team` blocks (`team_size_of`).
template <int Threads, class Body>
[[nodiscard]] status launch(const gpu& on, offset_t blocks, offset_t shared_bytes, const Body& body, int team = 1) {
  if (const status s = allow_shared<Threads, Body>(shared_bytes); !s.ok()) return s;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks * team));
  config.blockDim = dim3(Threads);
  config.dynamicSmemBytes = static_cast<std::size_t>(shared_bytes);
  config.stream = on.stream;
  cudaLaunchAttribute cluster{};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim.x = static_cast<unsigned>(team);
  cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
  config.attrs = &cluster;
  config.numAttrs = team > 1 ? 1 : 0;
  return status_of(cudaLaunchKernelEx(&config, &run_kernel<Threads, Body>, body));
}

}  // namespace kvevict::detail
