// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <kvevict/cpu/detail/attention_columns.hpp>
#include <kvevict/cpu/score/kernel.hpp>
#include <kvevict/score/attention.hpp>

namespace kvevict::detail {

/// Query rows that a row of the cache has, from whichever input holds them.
template <class Gain, class Inputs>
[[nodiscard]] constexpr const auto& row_source(const Inputs& in) {
  if constexpr (Gain::plain && Inputs::template has<input_kind::attention>) {
    return in.template get<input_kind::attention>();
  } else {
    return in.template get<input_kind::queries>();
  }
}

template <class Gain, class Weight>
struct source_kernel<score::attention<Gain, Weight>> {
  using attention = score::attention<Gain, Weight>;
  template <class Inputs>
  static constexpr bool given = Gain::plain&& Inputs::template has<input_kind::attention>;

  template <class Inputs>
  static status check(const attention& s, const Inputs& in, const score::row_context& row) {
    constexpr const char* name = given<Inputs> ? "attention" : "queries";
    const auto& from = row_source<Gain>(in);
    if (from.entries.null()) return {status_code::bad_pointer, name, "the data of this input is null"};
    if (given<Inputs> ? from.entries.dims() < row.length : from.entries.dims() != in.cache.keys().dims())
      return {status_code::bad_shape, name,
              given<Inputs> ? "attention needs as many dims as the row has slots"
                            : "queries need as many dims as the keys"};
    const index_t rows = from.row_count(in.cache.shape(), row.row);
    if (rows > row.length) return {status_code::bad_shape, name, "there are more query rows than slots"};
    if (rows < least(s.window, row.length))
      return {status_code::bad_input, name,
              s.window == score::all_rows ? "this policy scores with all rows: pass one query row per slot"
                                          : "there are fewer query rows than the observation window"};
    if constexpr (Gain::plain && !given<Inputs> && Inputs::template has<input_kind::log_sum_exp>) {
      if (in.template get<input_kind::log_sum_exp>().data == nullptr)
        return {status_code::bad_pointer, "log_sum_exp", "the log-sum-exp is null"};
    }
    return {};
  }

  static void plan(const attention& s, const scratch_extent& extent, carver& scratch) {
    column_scratch::take(scratch, extent, least(s.window, extent.length));
  }

  template <class Inputs>
  static void run(const attention& s, const Inputs& in, const score::row_context& row, const scratch_extent& extent,
                  float* out, carver scratch) {
    for (offset_t i = 0; i < static_cast<offset_t>(row.group_size) * row.length; ++i) out[i] = 0.0F;
    const index_t window = least(s.window, row.length);
    if constexpr (given<Inputs>) {
      sum_given(s, in, row, window, out);
    } else {
      const column_scratch buffers = column_scratch::take(scratch, extent, least(s.window, extent.length));
      const row_chunk step = chunk_size(window, row.group_size);
      for (index_t first = row.length - window; first < row.length; first += step.last)
        for (index_t head = 0; head < row.group_size; head += step.heads)
          add_columns(s, in, row,
                      {first, least(first + step.last, row.length), head, least(step.heads, row.group_size - head)},
                      out, buffers);
    }
    if (s.mean != score::row_mean::none) divide(s, row, window, out);
  }

 private:
  template <class Inputs>
  static void sum_given(const attention& s, const Inputs& in, const score::row_context& row, index_t window,
                        float* out) {
    const auto& given_rows = in.template get<input_kind::attention>();
    const index_t rows = given_rows.row_count(in.cache.shape(), row.row);
    row_id at = row.row;
    for (index_t h = 0; h < row.group_size; ++h) {
      at.kv_head = row.row.kv_head * row.group_size + h;
      float* columns = out + static_cast<offset_t>(h) * row.length;
      for (index_t i = row.length - window; i < row.length; ++i) {  // i = position of the row in the sequence
        const auto weight = static_cast<float>(s.weight(row.length - 1 - i));
        for (index_t j = 0; j <= i; ++j) columns[j] += weight * given_rows.entries(at, rows - (row.length - i), j);
      }
    }
  }

  /// The mean over all rows, or over those that see a slot: slot j is seen by the rows of age 0 .. length - 1 - j.
  static void divide(const attention& s, const score::row_context& row, index_t window, float* out) {
    double all = 0;
    for (index_t age = 0; age < window; ++age) all += s.weight(age);
    double seen = 0;
    for (index_t j = row.length - 1; j >= 0; --j) {
      const index_t age = row.length - 1 - j;
      if (age < window) seen += s.weight(age);
      const auto norm = static_cast<float>(1.0 / (s.mean == score::row_mean::all ? all : seen));
      for (index_t h = 0; h < row.group_size; ++h) out[static_cast<offset_t>(h) * row.length + j] *= norm;
    }
  }
};

}  // namespace kvevict::detail
