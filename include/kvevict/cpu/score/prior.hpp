// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cpu/detail/eigen.hpp>
#include <kvevict/cpu/detail/entry.hpp>
#include <kvevict/cpu/score/pool.hpp>
#include <kvevict/score/prior.hpp>

namespace kvevict::detail {

template <>
struct stage_kernel<score::value_prior> {
  template <class Inputs>
  static status check(const score::value_prior&, const Inputs& in, const score::row_context&) {
    if constexpr (Inputs::template has<input_kind::value_norms>) {
      if (in.template get<input_kind::value_norms>().data == nullptr)
        return {status_code::bad_pointer, "value_norms", "the value norms are null"};
    } else if constexpr (!cache_with_values<decltype(in.cache)>) {
      static_cast<void>(in.template get<input_kind::value_norms>());  // says what to pass
    } else {
      if (in.cache.values().null()) return {status_code::bad_pointer, "values", "the values of the cache are null"};
      if (in.cache.values().dims() < 1)
        return {status_code::bad_shape, "values", "the values of the cache have no dims"};
    }
    return {};
  }

  static void plan(const score::value_prior&, const scratch_extent& extent, carver& scratch) {
    scratch.take<float>(extent.length);
    scratch.take<float>(extent.length);
    scratch.take<float>(extent.value_dims);
  }

  template <class Inputs>
  static void run(const score::value_prior& prior, const Inputs& in, const score::row_context& row,
                  const scratch_extent& extent, float* scores, carver scratch) {
    float* norms = scratch.take<float>(extent.length);
    float* pooled = scratch.take<float>(extent.length);
    float* room = scratch.take<float>(extent.value_dims);
    for (index_t j = 0; j < row.length; ++j) norms[j] = squared_norm(in, row, j, room);
    average_pool(norms, row.length, prior.width, pooled);
    float peak = 0.0F;  // by hand: what maxCoeff makes of NaN depends on the vector width
    for (index_t j = 0; j < row.length; ++j) peak = greatest(peak, pooled[j]);
    if (peak != 0.0F) array(scores, row.length) *= array(pooled, row.length) / peak;
  }

 private:
  template <class Inputs>
  static float squared_norm(const Inputs& in, const score::row_context& row, index_t slot, float* room) {
    if constexpr (Inputs::template has<input_kind::value_norms>) {
      const auto& norms = in.template get<input_kind::value_norms>();
      return norms.data[norms.layout.offset(row.row, slot, 0)];
    } else {
      const auto& values = in.cache.values();
      return array(entry_as(values, row.row, slot, room), values.dims()).square().sum();
    }
  }
};

template <>
struct stage_kernel<score::no_prior> : plain_stage<score::no_prior> {
  template <class Inputs>
  static void run(const score::no_prior&, const Inputs&, const score::row_context&, const scratch_extent&, float*,
                  carver) {}
};

}  // namespace kvevict::detail
