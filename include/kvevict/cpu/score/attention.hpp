// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <cstring>
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
    if constexpr (Inputs::template has<input_kind::attention_sums>)
      if (s.window == score::all_rows) return {};
    constexpr const char* name = given<Inputs> ? "attention" : "queries";
    const auto& from = row_source<Gain>(in);
    if (from.entries.null()) return {status_code::bad_pointer, name, "the data of this input is null"};
    if (given<Inputs> ? from.entries.dims() < row.length : from.entries.dims() != in.cache.keys().dims())
      return {status_code::bad_shape, name,
              given<Inputs> ? "attention needs as many dims as the row has slots"
                            : "queries need as many dims as the keys"};
    const index_t rows = from.row_count(in.cache.shape(), row.row);
    if (rows > row.seen) return {status_code::bad_shape, name, "there are more query rows than tokens"};
    if (rows < least(s.window, row.seen))
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
    column_scratch::take(scratch, extent, s.window, stores(extent));
  }

  template <class Inputs>
  static void run(const attention& s, const Inputs& in, const score::row_context& row, const scratch_extent& extent,
                  float* out, carver scratch) {
    if constexpr (Inputs::template has<input_kind::attention_sums>) {
      if (s.window == score::all_rows) {
        for (index_t h = 0; h < row.group_size; ++h)
          std::memcpy(out + static_cast<offset_t>(h) * row.length,
                      in.template get<input_kind::attention_sums>().of(row.row, h),
                      static_cast<std::size_t>(row.length) * sizeof(float));
        return divide(s, in, row, row.seen, out);
      }
    }
    for (offset_t i = 0; i < static_cast<offset_t>(row.group_size) * row.length; ++i) out[i] = 0.0F;
    const index_t window = least(s.window, row.seen);
    accumulate(s, in, row, extent, window, out, row.length, scratch);
    divide(s, in, row, window, out);
  }

  /// columns[query_head of the group][slot] += weight(age) * a[i, slot] for the last `window` rows.
  template <class Inputs>
  static void accumulate(const attention& s, const Inputs& in, const score::row_context& row,
                         const scratch_extent& extent, index_t window, float* columns, offset_t column_stride,
                         carver scratch) {
    if constexpr (given<Inputs>) {
      sum_given(s, in, row, window, columns, column_stride);
    } else {
      const column_scratch buffers = column_scratch::take(scratch, extent, s.window, stores(extent));
      const auto add_all = [&]<class Steps>(Steps) {
        const row_chunk step = chunk_size(window, row.group_size, stores(extent));
        for (index_t first = row.seen - window; first < row.seen; first += step.last)
          for (index_t head = 0; head < row.group_size; head += step.heads)
            add_columns<Steps>(
                s, in, row, {first, least(first + step.last, row.seen), head, least(step.heads, row.group_size - head)},
                columns, column_stride, buffers);
      };
      using keys = std::remove_cvref_t<decltype(in.cache.keys())>;
      using queries = std::remove_cvref_t<decltype(in.template get<input_kind::queries>().entries)>;
      if constexpr (bfloat16_steps::available && plain_elements<keys, bfloat16> && plain_elements<queries, bfloat16>)
        if (in.cache.keys().dims() % 2 == 0) return add_all(bfloat16_steps{});
      add_all(float_steps{});
    }
  }

 private:
  /// columns[j] += weight * a[j]. A function of its own: inside its callers the few numbers that no vector takes run
  /// out of registers. Floats in packets, because g++ leaves such a loop to scalars at -O2.
  template <class Entries>
  [[gnu::noinline]] static void add_row(float weight, const Entries& rows, const row_id& head, index_t from,
                                        index_t count, float* columns) {
    const auto* a = rows.at(head, from, 0);
    index_t j = 0;
    if constexpr (plain_elements<Entries, float>) {
      const packet weights = broadcast(weight);
      for (; j + packet_size <= count; j += packet_size)
        store(columns + j, multiply_add(weights, load(a + j), load(columns + j)));
    }
    each_in_blocks(count - j, [&](index_t k) { columns[j + k] += weight * rows.reader(a[j + k], head, from, j + k); });
  }

  /// Whether exponentials wait for the sums of their rows.
  static constexpr bool stores(const scratch_extent& extent) { return !(Gain::plain && extent.log_sum_exp); }

  template <class Inputs>
  static void sum_given(const attention& s, const Inputs& in, const score::row_context& row, index_t window, float* out,
                        offset_t column_stride) {
    const auto& given_rows = in.template get<input_kind::attention>();
    const index_t rows = given_rows.row_count(in.cache.shape(), row.row);
    const row_positions position = positions_of(in, row.row);
    row_id at = row.row;
    for (index_t i = row.seen - window; i < row.seen; ++i) {  // i = position of the row in the sequence
      const auto weight = static_cast<float>(s.weight(row.seen - 1 - i));
      const index_t visible = position.before(i + 1, row.length), from = rows - (row.seen - i);
      for (index_t h = 0; h < row.group_size; ++h) {
        at.kv_head = row.row.kv_head * row.group_size + h;
        float* columns = out + h * column_stride;
        if (dense_dims(given_rows.entries)) {  // a loop of its own, so that it vectorises
          add_row(weight, given_rows.entries, at, from, visible, columns);
        } else {
          for (index_t j = 0; j < visible; ++j) columns[j] += weight * given_rows.entries(at, from, j);
        }
      }
    }
  }

  /// The mean over all rows, or over those that see a slot: a slot of age a is seen by the rows of age 0 .. a.
  template <class Inputs>
  static void divide(const attention& s, const Inputs& in, const score::row_context& row, index_t window, float* out) {
    if (s.mean == score::row_mean::none) return;
    double all = 0;
    for (index_t age = 0; age < window; ++age) all += s.weight(age);
    const row_positions position = positions_of(in, row.row);
    double seen = 0;
    index_t next = 0;  // the youngest row that is not in `seen`
    for (index_t j = row.length - 1; j >= 0; --j) {
      const index_t age = row.seen - 1 - position(j);
      for (; next <= age && next < window; ++next) seen += s.weight(next);
      const auto norm = static_cast<float>(1.0 / (s.mean == score::row_mean::all ? all : seen));
      for (index_t h = 0; h < row.group_size; ++h) out[static_cast<offset_t>(h) * row.length + j] *= norm;
    }
  }
};

}  // namespace kvevict::detail
