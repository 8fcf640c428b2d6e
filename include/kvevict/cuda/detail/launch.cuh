// SPDX-License-Identifier: MIT
#pragma once

#include <cudaTypedefs.h>
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
  extern __shared__ __align__(1024) std::byte shared_memory[];  // as detail/warpgroup.hpp wants it
  device_block<Threads> block(shared_memory);
  body(block);
}

[[nodiscard]] inline status status_of(cudaError_t error) {
  if (error == cudaSuccess) return {};
  return {status_code::device_error, "stream", cudaGetErrorString(error)};
}

/// A function of the driver's, by the name and the version of the interface that its type has (cudaTypedefs.h).
template <class Function>
[[nodiscard]] cudaError_t find_in_driver(const char* name, unsigned version, Function& found) {
  void* at = nullptr;
  cudaDriverEntryPointQueryResult result{};
  const cudaError_t error = cudaGetDriverEntryPointByVersion(name, &at, version, cudaEnableDefault, &result);
  found = reinterpret_cast<Function>(at);
  return error != cudaSuccess || result == cudaDriverEntryPointSuccess ? error : cudaErrorSymbolNotFound;
}

/// While it lives, the context of a stream is the current one, which what is asked of a kernel and a launch refer to;
/// then the caller's is again. The driver is asked, for cudaStreamGetDevice ends a capture. Default streams are those
/// of the current device.
class stream_device {
 public:
  explicit stream_device(cudaStream_t stream) {
    if (stream != nullptr && stream != cudaStreamLegacy && stream != cudaStreamPerThread) error_ = enter(stream);
    if (error_ == cudaSuccess) error_ = cudaGetDevice(&device_);
  }
  stream_device(const stream_device&) = delete;
  stream_device& operator=(const stream_device&) = delete;
  ~stream_device() {
    CUcontext left = nullptr;
    if (leave_ != nullptr) leave_(&left);
  }
  [[nodiscard]] status found() const { return status_of(error_); }
  [[nodiscard]] status attribute(cudaDeviceAttr which, int& value) const {
    return status_of(cudaDeviceGetAttribute(&value, which, device_));
  }

 private:
  int device_ = 0;
  PFN_cuCtxPopCurrent_v4000 leave_ = nullptr;
  cudaError_t error_ = cudaSuccess;

  [[nodiscard]] cudaError_t enter(cudaStream_t stream) {
    PFN_cuStreamGetCtx_v9020 context_of = nullptr;
    PFN_cuCtxPushCurrent_v4000 push = nullptr;
    PFN_cuCtxPopCurrent_v4000 pop = nullptr;
    cudaError_t error = find_in_driver("cuStreamGetCtx", 9020, context_of);
    if (error == cudaSuccess) error = find_in_driver("cuCtxPushCurrent", 4000, push);
    if (error == cudaSuccess) error = find_in_driver("cuCtxPopCurrent", 4000, pop);
    CUcontext context = nullptr;
    // Errors of the driver have the numbers of the runtime's.
    if (error == cudaSuccess) error = static_cast<cudaError_t>(context_of(stream, &context));
    if (error == cudaSuccess) error = static_cast<cudaError_t>(push(context));
    if (error == cudaSuccess) leave_ = pop;
    return error;
  }
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

/// Lets the kernel have that much shared memory per block: beyond what every device has, it must be asked for. The
/// driver is asked, for cudaFuncSetAttribute forgets the caller's last error.
template <int Threads, class Body>
[[nodiscard]] status allow_shared(offset_t bytes) {
  if (bytes <= 48 * 1024) return {};
  cudaFunction_t function = nullptr;
  PFN_cuFuncSetAttribute_v9000 set = nullptr;
  cudaError_t error = cudaGetFuncBySymbol(&function, reinterpret_cast<const void*>(&run_kernel<Threads, Body>));
  if (error == cudaSuccess) error = find_in_driver("cuFuncSetAttribute", 9000, set);
  if (error == cudaSuccess)
    error = static_cast<cudaError_t>(
        set(function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, static_cast<int>(bytes)));
  return status_of(error);
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
