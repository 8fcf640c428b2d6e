// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cpu/detail/eigen.hpp>
#include <kvevict/cpu/score/kernel.hpp>
#include <kvevict/score/combine.hpp>

namespace kvevict::detail {

/// Runs both sources of a combination, the second into scratch, and leaves the arithmetic to `combine`.
template <class Combination>
struct combination_kernel {
  template <class Inputs>
  static status check(const Combination& s, const Inputs& in, const score::row_context& row) {
    const status first = source_kernel<decltype(s.a)>::check(s.a, in, row);
    return first.ok() ? source_kernel<decltype(s.b)>::check(s.b, in, row) : first;
  }
  static void plan(const Combination& s, const scratch_extent& extent, carver& scratch) {
    scratch.take<float>(extent.length);
    carver first = scratch, second = scratch;
    source_kernel<decltype(s.a)>::plan(s.a, extent, first);
    source_kernel<decltype(s.b)>::plan(s.b, extent, second);
    scratch = first.bytes() > second.bytes() ? first : second;
  }
  template <class Inputs>
  static void run(const Combination& s, const Inputs& in, const score::row_context& row, const scratch_extent& extent,
                  float* out, carver scratch) {
    float* other = scratch.take<float>(extent.length);
    source_kernel<decltype(s.a)>::run(s.a, in, row, extent, out, scratch);
    source_kernel<decltype(s.b)>::run(s.b, in, row, extent, other, scratch);
    auto a = array(out, row.length);
    const auto b = array(static_cast<const float*>(other), row.length);
    if constexpr (requires { s.weight_a; })
      a = s.weight_a * a + s.weight_b * b;
    else
      a *= b;
  }
};

template <class A, class B>
struct source_kernel<score::product<A, B>> : combination_kernel<score::product<A, B>> {};
template <class A, class B>
struct source_kernel<score::weighted_sum<A, B>> : combination_kernel<score::weighted_sum<A, B>> {};

template <>
struct stage_kernel<score::share_of_sum> : plain_stage<score::share_of_sum> {
  template <class Inputs>
  static void run(const score::share_of_sum&, const Inputs&, const score::row_context& row, const scratch_extent&,
                  float* scores, carver) {
    const float sum = array(scores, row.length).sum();
    if (sum != 0.0F) array(scores, row.length) /= sum;
  }
};

template <>
struct stage_kernel<score::share_of_max> : plain_stage<score::share_of_max> {
  template <class Inputs>
  static void run(const score::share_of_max&, const Inputs&, const score::row_context& row, const scratch_extent&,
                  float* scores, carver) {
    float peak = scores[0];  // by hand: what maxCoeff makes of NaN depends on the vector width
    for (index_t j = 1; j < row.length; ++j)
      if (scores[j] > peak || peak != peak) peak = scores[j];
    if (peak != 0.0F) array(scores, row.length) /= peak;
  }
};

template <>
struct stage_kernel<score::power> : plain_stage<score::power> {
  template <class Inputs>
  static void run(const score::power& p, const Inputs&, const score::row_context& row, const scratch_extent&,
                  float* scores, carver) {
    for (index_t j = 0; j < row.length; ++j) {
      const float base = p.offset + scores[j];
      float result = 1;
      for (index_t e = 0; e < p.exponent; ++e) result *= base;
      scores[j] = result;
    }
  }
};

}  // namespace kvevict::detail
