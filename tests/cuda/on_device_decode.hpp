// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/kvevict.hpp>
#include <vector>

/// Decode on the device; on_device_decode.cpp knows what must come out.
namespace on_device {

using kvevict::index_t;
using kvevict::offset_t;

/// The tokens of one sequence, known beforehand, and how it lives.
struct decode_life {
  kvevict::cache_shape shape;  ///< of one sequence
  index_t group = 1, count = 0, dims = 0, capacity = 0, every = 1;
  std::vector<kvevict::bfloat16> keys, values;  ///< [rows][count][dims]
  std::vector<kvevict::bfloat16> queries;       ///< [rows * group][count][dims]
  bool in_one = false;                          ///< observation and eviction by one launch
};

struct decoded {
  std::vector<std::vector<kvevict::cache_line>> states;  ///< after each step
  std::vector<kvevict::bfloat16> keys;                   ///< [rows][capacity][dims], at the end
};

/// All tokens one by one, by a graph that is captured once; empty where a call failed.
template <class Policy>
decoded decode(const Policy& policy, const decode_life& life);

/// What a call of `evict_in_place` says that is to be refused.
kvevict::status one_eviction(const kvevict::workspace& states, const kvevict::workspace& memory, index_t* lengths,
                             index_t every);

}  // namespace on_device
