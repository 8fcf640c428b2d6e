// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cstdint>
#include <memory>

#include "random_numbers.cuh"
#include "replay.cuh"

/// What this device does at best, measured in the run that is compared with it.
namespace measured {
namespace {

__global__ void nothing() {}

/// A thread has four pieces on their way, as many blocks as there is room for.
__global__ void __launch_bounds__(512) copy(const uint4* from, uint4* to, std::size_t count) {
  const std::size_t step = std::size_t{gridDim.x} * blockDim.x;
  for (std::size_t i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += 4 * step) {
    uint4 held[4];
#pragma unroll
    for (int k = 0; k < 4; ++k)
      if (i + k * step < count) held[k] = __ldcs(from + i + k * step);
#pragma unroll
    for (int k = 0; k < 4; ++k)
      if (i + k * step < count) __stcs(to + i + k * step, held[k]);
  }
}

/// Every block reads the whole buffer, in an order of its own.
__global__ void read_all(const uint4* from, std::size_t count, unsigned* out) {
  unsigned sum = 0;
  const std::size_t first = blockIdx.x * (count / gridDim.x);
  for (std::size_t i = threadIdx.x; i < count; i += blockDim.x) {
    const std::size_t at = first + i < count ? first + i : first + i - count;
    const uint4 x = __ldcg(from + at);
    sum += x.x ^ x.y ^ x.z ^ x.w;
  }
  if (sum == 0x12345678u) *out = sum;
}

constexpr int chains = 8, rounds = 2048;

/// Eight chains of products per warp, so that each need not wait for the one before.
__global__ void __launch_bounds__(256) multiply(float* out) {
  const std::uint32_t a = 0x3f803f80u + threadIdx.x, b = 0x3c003c00u + threadIdx.x;
  float sums[chains][4] = {};
  for (int r = 0; r < rounds; ++r)
#pragma unroll
    for (int c = 0; c < chains; ++c)
      asm volatile(
          "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
          : "+f"(sums[c][0]), "+f"(sums[c][1]), "+f"(sums[c][2]), "+f"(sums[c][3])
          : "r"(a), "r"(b), "r"(a), "r"(b), "r"(b), "r"(a));
  float sum = 0;
#pragma unroll
  for (int c = 0; c < chains; ++c) sum += sums[c][0] + sums[c][1] + sums[c][2] + sums[c][3];
  if (sum == 0.123F) *out = sum;
}

__global__ void __launch_bounds__(256) exponentials(float* out) {
  float x[chains];
#pragma unroll
  for (int c = 0; c < chains; ++c) x[c] = -1.0F / static_cast<float>(1 + threadIdx.x + c);
  for (int r = 0; r < rounds; ++r)
#pragma unroll
    for (int c = 0; c < chains; ++c) asm volatile("ex2.approx.ftz.f32 %0, %0;" : "+f"(x[c]));
  float sum = 0;
#pragma unroll
  for (int c = 0; c < chains; ++c) sum += x[c];
  if (sum == 0.123F) *out = sum;
}

template <class Launch>
double seconds(const Launch& launch) {
  return replay(1,
                [&](std::size_t, cudaStream_t stream) {
                  launch(stream);
                  device::require(cudaPeekAtLastError(), "a kernel of the ceilings");
                })
      .median_seconds;
}

}  // namespace

double free_bytes() {
  std::size_t free = 0, total = 0;
  device::require(cudaMemGetInfo(&free, &total), "free memory");
  return static_cast<double>(free);
}

ceilings measure_ceilings() {
  ceilings c;
  int at = 0, clock = 0;
  cudaDeviceProp properties{};
  device::require(cudaGetDevice(&at), "device");
  device::require(cudaGetDeviceProperties(&properties, at), "device");
  device::require(cudaDriverGetVersion(&c.driver), "driver");
  device::require(cudaRuntimeGetVersion(&c.runtime), "runtime");
  device::require(cudaDeviceGetAttribute(&clock, cudaDevAttrClockRate, at), "clock");
  c.device = properties.name;
  c.multiprocessors = properties.multiProcessorCount;
  c.l2_bytes = properties.l2CacheSize;
  c.memory_bytes = static_cast<double>(properties.totalGlobalMem);
  c.max_clock_hertz = 1e3 * clock;
  const auto blocks = static_cast<unsigned>(8 * properties.multiProcessorCount);
  const device::array<float> out(1);
  {
    const std::size_t bytes = std::size_t{1} << 30;
    const device::array<float> from(bytes / sizeof(float)), to(bytes / sizeof(float));
    make_normal(from, 1);
    const double by_driver = seconds([&](cudaStream_t stream) {
      device::require(cudaMemcpyAsync(to.data(), from.data(), bytes, cudaMemcpyDeviceToDevice, stream), "copy");
    });
    const double by_kernel = seconds([&](cudaStream_t stream) {
      copy<<<4 * properties.multiProcessorCount, 512, 0, stream>>>(
          reinterpret_cast<const uint4*>(from.data()), reinterpret_cast<uint4*>(to.data()), bytes / sizeof(uint4));
    });
    c.copy_bytes_per_second = 2.0 * static_cast<double>(bytes) / std::min(by_driver, by_kernel);
  }
  {
    const std::size_t bytes = std::size_t{12} << 20;  // a part of any device's second-level cache of today
    const device::array<uint4> from(bytes / sizeof(uint4));
    const device::array<unsigned> result(1);
    c.l2_read_bytes_per_second = static_cast<double>(bytes) * blocks / seconds([&](cudaStream_t s) {
                                   read_all<<<blocks, 256, 0, s>>>(from.data(), from.size(), result.data());
                                 });
  }
  const double warps = 8.0 * blocks;
  c.mma_flops = warps * rounds * chains * (2.0 * 16 * 8 * 16) /
                seconds([&](cudaStream_t s) { multiply<<<blocks, 256, 0, s>>>(out.data()); });
  c.exponentials_per_second =
      32 * warps * rounds * chains / seconds([&](cudaStream_t s) { exponentials<<<blocks, 256, 0, s>>>(out.data()); });
  c.empty_graph_seconds = seconds([](cudaStream_t s) { nothing<<<1, 32, 0, s>>>(); });
  c.gemm_flops = measure_gemm();
  return c;
}

}  // namespace measured
