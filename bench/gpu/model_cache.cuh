// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/kvevict.hpp>
#include <memory>

#include "random_numbers.cuh"
#include "replay.cuh"
#include "scoring.hpp"

/// A cache of the model, filled on the device, with queries and what engines keep beside it.
namespace measured {

/// Which parts a step reads.
struct parts {
  bool values = false, norms = false, lse = false;
};

template <class E>
struct model_cache {
  kvevict::cache_shape shape;
  index_t keys_per_row, query_rows;
  parts has;
  device::array<E> keys, values, queries;
  device::array<float> lse, norms;

  model_cache(index_t layers, index_t slots, index_t queries_per_row, const parts& wanted, std::uint64_t seed)
      : shape{.layers = layers, .kv_heads = kv_heads},
        keys_per_row(slots),
        query_rows(queries_per_row),
        has(wanted),
        keys(entries_of(slots)),
        values(wanted.values ? entries_of(slots) : 0),
        queries(entries_of(group * queries_per_row)),
        lse(wanted.lse ? entries_of(group * queries_per_row) / dims : 0),
        norms(wanted.norms ? entries_of(slots) / dims : 0) {
    make_normal(keys, 4 * seed);
    make_normal(values, 4 * seed + 1);
    make_normal(queries, 4 * seed + 2);
    make_normal(norms, 4 * seed + 3);
    if (norms.size() > 0) square_all<<<1024, 256>>>(norms.data(), norms.size());
    if (lse.size() > 0)
      fill_log_sum_exp<<<1024, 256>>>(lse.data(), lse.size() / static_cast<std::size_t>(query_rows),
                                      static_cast<std::size_t>(query_rows),
                                      static_cast<std::size_t>(slots - query_rows + 1));
    device::require(cudaGetLastError(), "fill");
  }
  [[nodiscard]] std::size_t entries_of(index_t per_row) const {
    return static_cast<std::size_t>(shape.rows()) * static_cast<std::size_t>(per_row) * dims;
  }
  [[nodiscard]] static kvevict::strided order(index_t heads, index_t per_head, index_t width) {
    return kvevict::hnd(1, heads, per_head, width);
  }
  [[nodiscard]] auto cache() const {
    const auto layout = order(kv_heads, keys_per_row, dims);
    return kvevict::cache{shape, keys_per_row, kvevict::entries{keys.data(), layout, dims},
                          kvevict::entries{has.values ? values.data() : keys.data(), layout, dims}};
  }
  [[nodiscard]] auto query_rows_view() const {
    return kvevict::query_view{kvevict::entries{queries.data(), order(kv_heads * group, query_rows, dims), dims},
                               kv_heads * group, query_rows};
  }
  [[nodiscard]] auto lse_view() const {
    return kvevict::log_sum_exp_view{lse.data(), order(kv_heads * group, query_rows, 1)};
  }
  [[nodiscard]] auto norm_view() const {
    return kvevict::value_norm_view{norms.data(), order(kv_heads, keys_per_row, 1)};
  }

  /// One row with its scores, on the host.
  [[nodiscard]] scored_row row(offset_t r, const float* scores) const {
    scored_row out{.keys = keys_per_row, .query_rows = query_rows};
    const auto slots = static_cast<std::size_t>(keys_per_row);
    const std::size_t asked = static_cast<std::size_t>(group) * static_cast<std::size_t>(query_rows);
    out.key = numbers(keys.data(), r, slots * dims);
    if (has.values) out.value = numbers(values.data(), r, slots * dims);
    out.query = numbers(queries.data(), r, asked * dims);
    if (has.lse) out.lse = numbers(lse.data(), r, asked);
    if (has.norms) out.norms = numbers(norms.data(), r, slots);
    out.scores = numbers(scores, r, slots);
    return out;
  }

 private:
  template <class T>
  [[nodiscard]] static std::vector<float> numbers(const T* from, offset_t r, std::size_t count) {
    std::vector<T> raw(count);
    device::require(
        cudaMemcpy(raw.data(), from + r * static_cast<offset_t>(count), count * sizeof(T), cudaMemcpyDeviceToHost),
        "copy of a row");
    std::vector<float> out(count);
    for (std::size_t i = 0; i < count; ++i) out[i] = kvevict::to_float(raw[i]);
    return out;
  }
};

/// Room for the scores of all rows.
struct score_room {
  index_t rows;
  device::array<float> scores;
  device::array<offset_t> offsets;

  score_room(index_t row_count, index_t keys)
      : rows(row_count),
        scores(static_cast<std::size_t>(row_count) * static_cast<std::size_t>(keys)),
        offsets(steps(row_count, keys)) {}
  [[nodiscard]] kvevict::ragged<float> view() const { return {scores.data(), offsets.data(), rows}; }
  [[nodiscard]] static std::vector<offset_t> steps(index_t rows, index_t width) {
    std::vector<offset_t> out;
    for (index_t r = 0; r <= rows; ++r) out.push_back(static_cast<offset_t>(r) * width);
    return out;
  }
};

}  // namespace measured
