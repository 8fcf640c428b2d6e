// SPDX-License-Identifier: MIT
#pragma once

#include <functional>

#include "measured.hpp"

/// Steps that score: from queries, keys and what is given beside them.
namespace measured {

/// What a scorer of a window is given. All are of bf16 but the last.
enum class window_kind {
  keys,              ///< SnapKV, no log-sum-exp: keys are multiplied twice
  keys_lse,          ///< SnapKV with the engine's log-sum-exp
  norms_lse,         ///< AhaKV's prior with a plain gain, from cached norms of the values, and a log-sum-exp
  values_lse,        ///< the same, from the values
  step_gain_values,  ///< AhaKV as published: its own softmax, and the values
  float_keys_lse     ///< SnapKV with a log-sum-exp, fp32
};
[[nodiscard]] constexpr bool with_lse(window_kind k) {
  return k != window_kind::keys && k != window_kind::step_gain_values;
}
[[nodiscard]] constexpr bool with_values(window_kind k) {
  return k == window_kind::values_lse || k == window_kind::step_gain_values;
}
[[nodiscard]] const char* name_of(window_kind k);

/// One row of a scored cache, as numbers: what the CPU must score alike.
struct scored_row {
  index_t keys = 0, query_rows = 0;
  std::vector<float> key, value;  ///< [keys][dims]; values where they are read
  std::vector<float> query;       ///< [group][query_rows][dims]
  std::vector<float> lse, norms;  ///< [group][query_rows] and [keys], where they are read
  std::vector<float> scores;      ///< [keys], from the device
};
/// Says whether the scores of a row are right.
using row_check = std::function<bool(const scored_row&)>;

/// Scores; checks the first and the last row of the first input; then takes the time. No time where a row is wrong.
std::optional<timing> measure_window(window_kind kind, index_t layers, index_t keys, const row_check& right);

/// The same for the accumulated attention of all query rows (H2O), bf16, with a log-sum-exp.
std::optional<timing> measure_accumulated(index_t layers, index_t keys, const row_check& right);

/// Bytes of device memory that they need.
double window_bytes(window_kind kind, index_t layers, index_t keys);
double accumulated_bytes(index_t layers, index_t keys);

}  // namespace measured
