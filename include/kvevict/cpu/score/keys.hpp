// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <kvevict/core/blocks.hpp>
#include <kvevict/cpu/detail/eigen.hpp>
#include <kvevict/cpu/detail/entry.hpp>
#include <kvevict/cpu/score/kernel.hpp>
#include <kvevict/score/keys.hpp>

namespace kvevict::detail {

template <>
struct source_kernel<score::key_norm> {
  template <class Inputs>
  static status check(const score::key_norm&, const Inputs&, const score::row_context&) {
    return {};
  }
  static void plan(const score::key_norm&, const scratch_extent& extent, carver& scratch) {
    scratch.take<float>(extent.key_dims);
  }
  template <class Inputs>
  static void run(const score::key_norm&, const Inputs& in, const score::row_context& row, const scratch_extent& extent,
                  float* out, carver scratch) {
    float* room = scratch.take<float>(extent.key_dims);
    const auto& keys = in.cache.keys();
    for (index_t j = 0; j < row.length; ++j)
      out[j] = -std::sqrt(array(entry_as(keys, row.row, j, room), keys.dims()).square().sum());
  }
};

template <>
struct source_kernel<score::key_diff> {
  template <class Inputs>
  static status check(const score::key_diff&, const Inputs&, const score::row_context&) {
    return {};
  }
  static void plan(const score::key_diff&, const scratch_extent& extent, carver& scratch) {
    scratch.take<float>(extent.key_dims);
    scratch.take<double>(extent.key_dims);
    scratch.take<float>(extent.key_dims);
  }
  template <class Inputs>
  static void run(const score::key_diff&, const Inputs& in, const score::row_context& row, const scratch_extent& extent,
                  float* out, carver scratch) {
    float* room = scratch.take<float>(extent.key_dims);
    double* total = scratch.take<double>(extent.key_dims);
    float* anchor = scratch.take<float>(extent.key_dims);
    const auto& keys = in.cache.keys();
    const index_t dims = keys.dims();
    const auto norm_of = [&](const float* x) { return greatest(std::sqrt(array(x, dims).square().sum()), 1e-12F); };

    for (index_t d = 0; d < dims; ++d) total[d] = 0;
    for (index_t j = 0; j < row.length; ++j) {
      const float* key = entry_as(keys, row.row, j, room);
      const double scale = 1.0 / static_cast<double>(norm_of(key));
      each_in_blocks(dims, [&](index_t d) { total[d] += static_cast<double>(key[d]) * scale; });
    }
    for (index_t d = 0; d < dims; ++d) anchor[d] = static_cast<float>(total[d] / row.length);
    const float anchor_norm = norm_of(anchor);
    for (index_t j = 0; j < row.length; ++j) {
      const float* key = entry_as(keys, row.row, j, room);
      out[j] =
          -(array(key, dims) * array(static_cast<const float*>(anchor), dims)).sum() / (norm_of(key) * anchor_norm);
    }
  }
};

}  // namespace kvevict::detail
