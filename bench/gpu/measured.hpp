// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/core/types.hpp>
#include <optional>
#include <string>
#include <vector>

/// What is measured on a GPU, as both compilers see it: .cu files run the device, .cpp files verify and write tables.
namespace measured {

using kvevict::index_t;
using kvevict::offset_t;

/// The model of the goals: Llama-3-8B.
inline constexpr index_t kv_heads = 8, group = 4, dims = 128, window = 32, kept = 1024;

/// One call, replayed as a graph, on inputs that take turns so that no cache holds them.
struct timing {
  double median_seconds = 0;
  int runs = 0;
  int launches = 0;
  offset_t workspace_bytes = 0;
};

/// The limits of this run. What could not be measured is 0.
struct ceilings {
  std::string device;
  int driver = 0, runtime = 0;  ///< CUDA versions, 1000 x major + 10 x minor
  int multiprocessors = 0;
  double l2_bytes = 0, memory_bytes = 0;
  double max_clock_hertz = 0;           ///< of the multiprocessors, as the driver states it
  double copy_bytes_per_second = 0;     ///< device memory to device memory, read + written
  double l2_read_bytes_per_second = 0;  ///< of a buffer that stays in the second-level cache
  double mma_flops = 0;                 ///< mma.sync bf16, operands in registers, nothing else
  double gemm_flops = 0;                ///< cuBLAS, bf16, 8192 x 8192 x 8192, where the toolkit has it
  double exponentials_per_second = 0;   ///< ex2.approx
  double empty_graph_seconds = 0;       ///< of a graph whose only kernel does nothing

  /// What shares of the tensor cores refer to.
  [[nodiscard]] double tensor_flops() const { return gemm_flops > mma_flops ? gemm_flops : mma_flops; }
};
ceilings measure_ceilings();
double measure_gemm();

/// A line of the table.
struct row {
  std::string step;
  index_t keys = 0, layers = 0;
  timing time{};
  double minimum_bytes = 0;  ///< each input read once, each output written once
  double flops = 0;          ///< useful ones: one product of queries and keys, whatever is computed twice
  std::string skipped{};     ///< why there is no time
};

/// Bytes of device memory that are free.
double free_bytes();

}  // namespace measured
