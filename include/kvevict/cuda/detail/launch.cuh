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

/// While it lives, the device of a stream is the current one, which what is asked of a kernel and a launch refer to;
/// then the caller's is again.
class stream_device {
 public:
  explicit stream_device(cudaStream_t stream) : error_(cudaStreamGetDevice(stream, &device_)) {
    if (error_ == cudaSuccess) error_ = cudaGetDevice(&callers_);
    if (error_ != cudaSuccess || device_ == callers_) return;
    error_ = cudaSetDevice(device_);
    changed_ = error_ == cudaSuccess;
  }
  stream_device(const stream_device&) = delete;
  stream_device& operator=(const stream_device&) = delete;
  ~stream_device() {
    if (changed_) cudaSetDevice(callers_);
  }
  [[nodiscard]] status found() const { return status_of(error_); }
  [[nodiscard]] status attribute(cudaDeviceAttr which, int& value) const {
    return status_of(cudaDeviceGetAttribute(&value, which, device_));
  }

 private:
  int device_ = 0, callers_ = 0;
  bool changed_ = false;
  cudaError_t error_;
};

/// Blocks of a team: a cluster where the device has them and the code was compiled for it, else a block alone.
template <int Threads, class Body>
[[nodiscard]] status team_size_of(const gpu& on, int wanted, int& size) {
  size = 1;
  if (wanted == 1) return {};
  const stream_device device(on.stream);
  cudaFuncAttributes attributes{};
  int clusters = 0;
  status s = device.found();
  if (s.ok()) s = status_of(cudaFuncGetAttributes(&attributes, &run_kernel<Threads, Body>));
  if (s.ok()) s = device.attribute(cudaDevAttrClusterLaunch, clusters);
  if (s.ok() && clusters != 0 && attributes.ptxVersion >= 90 && attributes.binaryVersion >= 90) size = wanted;
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
  const stream_device device(on.stream);
  if (const status s = device.found(); !s.ok()) return s;
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
