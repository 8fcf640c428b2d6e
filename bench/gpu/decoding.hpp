// SPDX-License-Identifier: MIT
#pragma once

#include "measured.hpp"

/// Decode: rows that hold `kept` slots take a token at each step and go back to their budget every `pace` steps.
namespace measured {

inline constexpr index_t pace = 64;

/// What a step is fed with.
enum class decode_kind {
  h2o_attention,  ///< H2O's sums, from the probabilities that the engine's attention has
  h2o_queries,    ///< the same from the new queries
  window_queries  ///< SnapKV: the ring of the last 32 queries, which attend where rows are full
};
[[nodiscard]] const char* name_of(decode_kind k);

/// The time of one step, an eviction every `pace` steps included: append, observe, evict in place. A graph of `pace`
/// steps is replayed. No time where rows do not come back to their budget, or positions are not those of retained
/// tokens with the newest among them; that the kept sets are the CPU's is what the device tests compare.
std::optional<timing> measure_decode(decode_kind kind, index_t layers);

/// Bytes of device memory that it needs.
double decode_bytes(index_t layers);

}  // namespace measured
