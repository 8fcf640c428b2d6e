// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/core/element.hpp>
#include <type_traits>

#include "../../tests/support/device.hpp"

/// Inputs that are made on the device: uploads would take longer than what is measured.
namespace measured {

/// About normal: the sum of four uniform numbers of a hash of the place, variance 1.
template <class E>
__global__ void fill_normal(E* to, std::size_t count, std::uint64_t seed) {
  const std::size_t step = static_cast<std::size_t>(gridDim.x) * blockDim.x;
  for (std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) {
    std::uint64_t x = (i + 1) * 0x9e3779b97f4a7c15u + seed * 0xd1342543de82ef95u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    x ^= x >> 31;
    float sum = 0;
    for (int part = 0; part < 4; ++part) sum += static_cast<float>((x >> (16 * part)) & 0xffff) * 0x1p-16F;
    const float normal = (sum - 2) * 1.7320508F;
    if constexpr (std::is_same_v<E, kvevict::bfloat16>)
      to[i] = kvevict::to_bfloat16(normal);
    else
      to[i] = normal;
  }
}

template <class E>
void make_normal(const device::array<E>& memory, std::uint64_t seed) {
  if (memory.size() == 0) return;
  fill_normal<<<4096, 256>>>(memory.data(), memory.size(), seed);
  device::require(cudaGetLastError(), "fill");
}

/// Squared norms that differ.
static __global__ void square_all(float* x, std::size_t count) {
  const std::size_t step = static_cast<std::size_t>(gridDim.x) * blockDim.x;
  for (std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step)
    x[i] *= 100 * x[i];
}

/// A log-sum-exp such as attention over independent normal keys and queries has: log(visible slots) + 1/2, of the rows
/// first_visible, first_visible + 1, ... It is made up; what is verified gets the same numbers.
static __global__ void fill_log_sum_exp(float* to, std::size_t heads, std::size_t rows, std::size_t first_visible) {
  const std::size_t step = static_cast<std::size_t>(gridDim.x) * blockDim.x;
  for (std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < heads * rows; i += step)
    to[i] = logf(static_cast<float>(first_visible + i % rows)) + 0.5F;
}

}  // namespace measured
