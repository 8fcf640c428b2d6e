// SPDX-License-Identifier: MIT
// As much of the CUDA runtime as entry points may use. There is no device: a launch is looked at and written down.
#include <cuda.h>
#include <cuda_runtime_api.h>

#include <map>
#include <string>
#include <utility>

#include "launches.hpp"

namespace {

launches::device pretended{};
std::vector<launches::launch> launched;
std::map<const void*, int> allowed_shared;
int current_device = 0;
std::vector<int> before;  // what was current when contexts were entered that are not left yet
constexpr int device_of_stream = 1;

// What is asked of the driver: contexts are those of the stream's device and of the one that was current.
CUresult context_of_stream(CUstream stream, CUcontext* context) {
  *context = reinterpret_cast<CUcontext>(stream);
  return stream == nullptr ? CUDA_ERROR_INVALID_HANDLE : CUDA_SUCCESS;
}
CUresult push(CUcontext context) {
  if (context == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
  before.push_back(std::exchange(current_device, device_of_stream));
  return CUDA_SUCCESS;
}
CUresult pop(CUcontext* context) {
  if (context == nullptr || before.empty()) return CUDA_ERROR_INVALID_CONTEXT;
  current_device = before.back();
  before.pop_back();
  return CUDA_SUCCESS;
}
CUresult set_attribute(CUfunction function, CUfunction_attribute what, int value) {
  if (what != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES || value > pretended.most_shared ||
      current_device != device_of_stream)
    return CUDA_ERROR_INVALID_VALUE;
  allowed_shared[function] = value;
  return CUDA_SUCCESS;
}
const std::map<std::pair<std::string, unsigned>, void*> driver = {
    {{"cuFuncSetAttribute", 9000u}, reinterpret_cast<void*>(&set_attribute)},
    {{"cuStreamGetCtx", 9020u}, reinterpret_cast<void*>(&context_of_stream)},
    {{"cuCtxPushCurrent", 4000u}, reinterpret_cast<void*>(&push)},
    {{"cuCtxPopCurrent", 4000u}, reinterpret_cast<void*>(&pop)},
};

}  // namespace

void launches::pretend(const device& d) {
  pretended = d;
  allowed_shared.clear();
  current_device = 0;
}
std::vector<launches::launch> launches::taken() { return std::exchange(launched, {}); }
int launches::current() { return current_device; }

extern "C" {

// What nvcc writes into a program with kernels.
void** __cudaRegisterFatBinary(void*) {
  static void* handle = nullptr;
  return &handle;
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
char __cudaInitModule(void**) { return 1; }
void __cudaRegisterFunction(void**, const char*, char*, const char*, int, uint3*, uint3*, dim3*, dim3*, int*) {}
cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void*) {
  *kernel = nullptr;
  return cudaSuccess;
}
cudaError_t __cudaPopCallConfiguration(dim3*, dim3*, std::size_t*, void*) { return cudaErrorNotSupported; }
cudaError_t __cudaLaunchKernel(cudaKernel_t, dim3, dim3, void**, std::size_t, cudaStream_t) {
  return cudaErrorNotSupported;
}

const char* cudaGetErrorString(cudaError_t) { return "the pretended device refuses"; }

cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** function, unsigned version, unsigned long long,
                                             cudaDriverEntryPointQueryResult* result) {
  const auto found = driver.find({name, version});
  *result = found == driver.end() ? cudaDriverEntryPointSymbolNotFound : cudaDriverEntryPointSuccess;
  *function = found == driver.end() ? nullptr : found->second;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = current_device;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr what, int device) {
  constexpr int reserved = 1024;
  if (device != device_of_stream) return cudaErrorInvalidDevice;
  if (what == cudaDevAttrClusterLaunch)
    *value = pretended.clusters ? 1 : 0;
  else if (what == cudaDevAttrMaxSharedMemoryPerMultiprocessor)
    *value = pretended.most_shared + reserved;
  else if (what == cudaDevAttrReservedSharedMemoryPerBlock)
    *value = reserved;
  else
    return cudaErrorInvalidValue;
  return cudaSuccess;
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  if (current_device != device_of_stream) return cudaErrorInvalidDevice;
  *attributes = {};
  attributes->ptxVersion = attributes->binaryVersion = pretended.code;
  return cudaSuccess;
}
cudaError_t cudaGetFuncBySymbol(cudaFunction_t* function, const void* symbol) {
  if (current_device != device_of_stream) return cudaErrorInvalidDevice;
  *function = static_cast<cudaFunction_t>(const_cast<void*>(symbol));
  return cudaSuccess;
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* function, void**) {
  launches::launch l;
  l.blocks = config->gridDim.x;
  l.threads = config->blockDim.x;
  l.shared = config->dynamicSmemBytes;
  l.on_device = current_device;
  const auto refuse = [&](bool wrong, const char* why) {
    if (wrong && l.wrong.empty()) l.wrong = why;
  };
  for (unsigned i = 0; i < config->numAttrs; ++i) {
    refuse(config->attrs[i].id != cudaLaunchAttributeClusterDimension, "an attribute that is not known here");
    l.cluster = config->attrs[i].val.clusterDim.x;
    refuse(!pretended.clusters || pretended.code < 90, "clusters, which device or code do not have");
    refuse(l.cluster < 1 || l.cluster > 8 || l.blocks % l.cluster != 0, "clusters of that size");
  }
  refuse(l.blocks < 1 || l.blocks > 0x7fffffffu, "no blocks, or too many");
  refuse(l.threads < 1 || l.threads > 1024 || l.threads % 32 != 0, "threads");
  const auto allowed = allowed_shared.find(function);
  const int most = allowed == allowed_shared.end() ? 48 * 1024 : allowed->second;
  refuse(l.shared > static_cast<std::size_t>(most), "more shared memory than was asked for");
  refuse(current_device != device_of_stream, "a stream of a device that is not the current one");
  launched.push_back(l);
  return l.wrong.empty() ? cudaSuccess : cudaErrorInvalidConfiguration;
}
}
