// SPDX-License-Identifier: MIT
#include "decoding.hpp"
#include "scoring.hpp"
#include "selecting.hpp"

/// Names of the steps, and the device memory that they need.
namespace measured {

namespace {

/// bf16 entries of `per_slot` parts, and what the scores of a slot need: the columns of its group, and the score.
double cache_bytes(double parts_per_slot, index_t layers, index_t keys) {
  const double slots = double(layers) * kv_heads * keys;
  return slots * (2.0 * dims * parts_per_slot + 4.0 * group + 16) + 1e9;  // and inputs that take turns
}

}  // namespace

const char* name_of(window_kind k) {
  switch (k) {
    case window_kind::keys:
      return "window scores: keys alone";
    case window_kind::keys_lse:
      return "window scores: lse";
    case window_kind::norms_lse:
      return "window scores: lse, cached norms";
    case window_kind::values_lse:
      return "window scores: lse, values";
    case window_kind::step_gain_values:
      return "window scores: step gain, values";
    default:
      return "window scores: lse, fp32";
  }
}

const char* name_of(compaction_kind k) {
  return k == compaction_kind::gather     ? "compaction: gather"
         : k == compaction_kind::in_place ? "compaction: in place"
                                          : "compaction: swap-fill";
}

const char* name_of(decode_kind k) {
  return k == decode_kind::h2o_attention ? "decode step: H2O, attention"
         : k == decode_kind::h2o_queries ? "decode step: H2O, queries"
                                         : "decode step: window of 32, queries";
}

double window_bytes(window_kind k, index_t layers, index_t keys) {
  return cache_bytes(with_values(k) || k == window_kind::float_keys_lse ? 2 : 1, layers, keys);
}
double accumulated_bytes(index_t layers, index_t keys) { return cache_bytes(1 + group, layers, keys); }
double whole_bytes(bool, index_t layers, index_t keys) {
  return cache_bytes(2, layers, keys) + compaction_bytes(layers, kept);
}
double decode_bytes(index_t layers) {
  return double(layers) * kv_heads * (kept + pace) * (2.0 * 2 * 2 * dims + 4.0 * (4 * group + 16)) + 1e8;
}
double compaction_bytes(index_t layers, index_t keys) {
  const double slots = double(layers) * kv_heads * (double(keys) + kept);
  return slots * (2.0 * 2.0 * dims + 8);
}

}  // namespace measured
