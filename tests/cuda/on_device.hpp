// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/kvevict.hpp>
#include <kvevict/view/row_scores.hpp>
#include <vector>

/// What the two compilers of the device tests have in common: on_device.cpp knows what must come out, on_device.cu runs
/// the device.
namespace on_device {

using kvevict::index_t;
using kvevict::offset_t;

struct scored_rows {
  kvevict::cache_shape shape;
  std::vector<offset_t> offsets{0};
  std::vector<float> scores;
};

struct kept_slots {
  std::vector<offset_t> offsets;
  std::vector<index_t> slots;
};

/// Whether there is a device.
bool found();

/// The selection after `runs` runs in one stream, captured into a graph where `captured`; empty where a call failed.
template <class Policy>
kept_slots select(const Policy& policy, const scored_rows& in, int runs, bool captured);

/// A dense cache, [rows][most][dims], and queries, [kv_heads * group][most][dims] per (layer, sequence).
template <class Element>
struct cache_rows {
  kvevict::cache_shape shape;
  index_t most = 0, dims = 0, group = 1;
  std::vector<index_t> lengths;  ///< [rows], the same in all kv_heads of a sequence
  std::vector<index_t> query_rows;
  std::vector<Element> keys, values, queries;
};

struct evicted_rows {
  std::vector<float> scores;      ///< [rows][most]
  std::vector<offset_t> offsets;  ///< of what each row retains
  std::vector<index_t> slots;
};

/// Scores, and the selection that an eviction makes of them; empty where a call failed.
template <class Policy, class Element>
evicted_rows evict(const Policy& policy, const cache_rows<Element>& in);

/// The tokens of one sequence, known beforehand, and how it lives.
struct decode_life {
  kvevict::cache_shape shape;  ///< of one sequence
  index_t group = 1, count = 0, dims = 0, capacity = 0, every = 1;
  std::vector<kvevict::bfloat16> keys, values;  ///< [rows][count][dims]
  std::vector<kvevict::bfloat16> queries;       ///< [rows * group][count][dims]
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

/// What one call says; it may be refused before it reaches a device.
kvevict::status one_call(const kvevict::row_scores& in, const kvevict::selection& out,
                         const kvevict::workspace& memory);
offset_t needed_workspace(const kvevict::row_scores& in);

}  // namespace on_device
