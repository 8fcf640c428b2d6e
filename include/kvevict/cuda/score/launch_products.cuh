// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/detail/alignment.hpp>
#include <kvevict/cuda/detail/launch.cuh>
#include <kvevict/cuda/score/attention_stream.hpp>
#include <kvevict/cuda/score/general_products.hpp>
#include <kvevict/cuda/score/mma_products.hpp>
#include <kvevict/cuda/score/wgmma_products.hpp>

/// Puts the kernels of attention from keys and queries into a stream: with what they multiply follows from elements,
/// head_dim and architecture.
namespace kvevict::detail {

inline constexpr int attention_threads = 256;

/// Kernels that multiply what reads as numbers, on all architectures.
struct plain_products {
  static constexpr int blocks_together = 1;
  template <class Block, class Task>
  __device__ static void sums(Block& b, const Task& task) {
    attention_sums<general_products<>>(b, task);
  }
  template <class Block, class Task>
  __device__ static void columns(Block& b, const Task& task) {
    attention_columns<general_products<>>(b, task);
  }
  [[nodiscard]] static constexpr offset_t sums_bytes(bool /*sm_90*/) {
    return attention_sums_bytes<general_products<>>(attention_threads);
  }
  [[nodiscard]] static constexpr offset_t columns_bytes(bool /*sm_90*/) {
    return attention_columns_bytes<general_products<>>(attention_threads);
  }
};

/// Kernels that multiply on tensor cores, those of the architecture that they are compiled for. 256 dims are not left
/// to warpgroups, for which there are not enough registers.
template <class Element, int Dims>
struct tensor_products {
  using warps = mma_products<Element, Dims>;
  using warpgroups = wgmma_products<Element, Dims>;
  using stream = wgmma_products<Element, Dims, 4>;
  static constexpr bool for_warpgroups = Dims < 256;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
  static constexpr int blocks_together = Dims <= 64 ? 2 : 1;  // for which registers are just enough
#else
  static constexpr int blocks_together = 1;
#endif

  template <class Block, class Task>
  __device__ static void sums(Block& b, const Task& task) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    if constexpr (for_warpgroups) return attention_sums<warpgroups>(b, task);
#endif
    attention_sums<warps>(b, task);
  }
  template <class Block, class Task>
  __device__ static void columns(Block& b, const Task& task) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    if constexpr (for_warpgroups) {
      if (task.row(b.index() / task.blocks_per_row).columns > stream::columns)
        return attention_stream<stream>(b, task);
      else
        return attention_columns<warpgroups>(b, task);
    }
#endif
    attention_columns<warps>(b, task);
  }
  /// Shared memory in bytes, by whether the code is for sm_90: maybe for sm_90a, which only it knows.
  [[nodiscard]] static constexpr offset_t sums_bytes(bool sm_90) {
    const offset_t least_of_all = attention_sums_bytes<warps>(attention_threads);
    return sm_90 && for_warpgroups ? greatest(least_of_all, attention_sums_bytes<warpgroups>(attention_threads))
                                   : least_of_all;
  }
  [[nodiscard]] static constexpr offset_t columns_bytes(bool sm_90) {
    const offset_t least_of_all = attention_columns_bytes<warps>(attention_threads);
    return sm_90 && for_warpgroups ? greatest(least_of_all, attention_stream_bytes<stream>(attention_threads))
                                   : least_of_all;
  }
};

template <class Products, class Task>
struct sums_body {
  Task task;
  template <class Block>
  __device__ void operator()(Block& b) const {
    Products::sums(b, task);
  }
};
template <class Task>
struct join_body {
  Task task;
  template <class Block>
  __device__ void operator()(Block& b) const {
    attention_join(b, task);
  }
};
template <class Products, class Task>
struct columns_body {
  Task task;
  static constexpr int blocks_together = Products::blocks_together;
  template <class Block>
  __device__ void operator()(Block& b) const {
    Products::columns(b, task);
  }
};
/// Launches a kernel with as much shared memory as bytes_of(sm_90) says for what it was compiled for.
template <class Body>
[[nodiscard]] status launch_multiplying(const gpu& on, offset_t blocks, offset_t (*bytes_of)(bool), const Body& body) {
  const stream_device device(on.stream);
  if (const status s = device.found(); !s.ok()) return s;
  cudaFuncAttributes attributes{};
  const status s = status_of(cudaFuncGetAttributes(&attributes, &run_kernel<attention_threads, Body>));
  return s.ok() ? launch<attention_threads>(on, blocks, bytes_of(attributes.binaryVersion == 90), body) : s;
}

template <class Products, class Task>
[[nodiscard]] status launch_attention(const gpu& on, Task task) {
  const offset_t blocks = task.cache.shape().rows() * task.blocks_per_row;
  if constexpr (!Task::known) {
    const status s = launch_multiplying(on, blocks, &Products::sums_bytes, sums_body<Products, Task>{task});
    if (!s.ok()) return s;
    // A few parts of a few columns are joined by every block that asks for them.
    if (task.blocks_per_row > 4 || (task.blocks_per_row > 1 && task.parts.columns > 128)) {
      if (const status j = launch<attention_threads>(on, blocks, 0, join_body<Task>{task}); !j.ok()) return j;
      task.parts.joined = true;
    }
  }
  return launch_multiplying(on, blocks, &Products::columns_bytes, columns_body<Products, Task>{task});
}

/// With tensor cores where elements, alignment and head_dim allow it.
template <class Element, class Task>
[[nodiscard]] status launch_products(const gpu& on, const Task& task) {
  if constexpr (sizeof(Element) == 2 && plain_elements<std::remove_cvref_t<decltype(task.cache.keys())>, Element> &&
                plain_elements<std::remove_cvref_t<decltype(task.queries.entries)>, Element>)
    if (dense_dims(task.cache.keys()) && in_pieces_of(task.cache.keys(), 8) &&
        (!dense_dims(task.queries.entries) || in_pieces_of(task.queries.entries, 8)))
      switch (task.cache.keys().dims()) {
        case 64:
          return launch_attention<tensor_products<Element, 64>>(on, task);
        case 80:
          return launch_attention<tensor_products<Element, 80>>(on, task);
        case 96:
          return launch_attention<tensor_products<Element, 96>>(on, task);
        case 128:
          return launch_attention<tensor_products<Element, 128>>(on, task);
        case 192:
          return launch_attention<tensor_products<Element, 192>>(on, task);
        case 256:
          return launch_attention<tensor_products<Element, 256>>(on, task);
        default:
          break;
      }
  return launch_attention<plain_products>(on, task);
}

}  // namespace kvevict::detail
