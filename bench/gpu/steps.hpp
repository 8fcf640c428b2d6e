// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/core/types.hpp>
#include <string>
#include <vector>

/// What is measured on a GPU. The device's side is in steps.cu; main.cpp verifies and prints.
namespace steps {

using kvevict::index_t;
using kvevict::offset_t;

/// The limits of this run.
struct ceilings {
  std::string device;
  double copy_bytes_per_second = 0;  ///< device memory to device memory, read + written
  double empty_node_seconds = 0;     ///< of a graph whose only kernel does nothing
};
ceilings measure_ceilings();

/// One call, replayed as a graph, on inputs that take turns so that no cache holds them.
struct timing {
  double median_seconds = 0;
  int launches = 0;
  offset_t workspace_bytes = 0;
};

/// Selection of `keep` slots of `keys` scores, 8 kv_heads x `layers` rows, with joint budgets or without.
struct selection_run {
  timing time;
  std::vector<float> scores;  ///< [rows][keys], of the inputs that the result belongs to
  std::vector<offset_t> offsets;
  std::vector<index_t> slots;
};
inline constexpr index_t kv_heads = 8;
selection_run measure_selection(index_t layers, index_t keys, index_t keep, bool joint);

/// CUB's segmented sort of the same scores, which is what a top-k by sorting costs at least.
double measure_segmented_sort(index_t layers, index_t keys);

}  // namespace steps
