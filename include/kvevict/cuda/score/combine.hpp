// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/core/amount.hpp>
#include <kvevict/cuda/score/kernel.hpp>
#include <kvevict/score/combine.hpp>

/// Combinations and normalisations: of the same scores bit for bit what the CPU gives, except `share_of_sum`, whose sum
/// is one of doubles in a fixed order, rounded once.
namespace kvevict::detail {

/// Runs both sources of a combination, the second into scratch.
template <class Combination>
struct row_combination {
  using source_a = source_program<std::remove_cvref_t<decltype(std::declval<Combination&>().a)>>;
  using source_b = source_program<std::remove_cvref_t<decltype(std::declval<Combination&>().b)>>;

  static void plan(const Combination& s, const program_extent& extent, carver& scratch) {
    scratch.take<float>(extent.length);
    carver first = scratch, second = scratch;
    source_a::plan(s.a, extent, first);
    source_b::plan(s.b, extent, second);
    scratch = first.bytes() > second.bytes() ? first : second;
  }
  template <class Program>
  KVEVICT_HOST_DEVICE static void run(const Program& p, const Combination& s, float* out, carver scratch) {
    float* const other = scratch.take<float>(p.extent.length);
    source_a::run(p, s.a, out, scratch);
    source_b::run(p, s.b, other, scratch);
    const auto a = p.b.global(out, p.row.length), b = p.b.global(other, p.row.length);
    p.write(
        a,
        [&](int t, index_t j) {
          return two{a.load(t, j), b.load(t, j)};
        },
        [&](int, const two& x) {
          if constexpr (requires { s.weight_a; })
            return rounded_product(s.weight_a, x.a) + rounded_product(s.weight_b, x.b);
          else
            return x.a * x.b;
        });
    p.b.sync();
  }

 private:
  struct two {
    float a, b;
  };
};

template <class A, class B>
struct source_program<score::product<A, B>> : row_combination<score::product<A, B>> {};
template <class A, class B>
struct source_program<score::weighted_sum<A, B>> : row_combination<score::weighted_sum<A, B>> {};

/// Divides the row by a number that all threads have, unless it is 0.
template <class Program, class Array, class Local>
KVEVICT_HOST_DEVICE void divide_row(const Program& p, const Array& scores, const Local& by) {
  p.write(
      scores, [&](int t, index_t j) { return scores.load(t, j); },
      [&](int t, float x) {
        const auto divisor = static_cast<float>(by[t]);
        return divisor != 0.0F ? x / divisor : x;
      });
  p.b.sync();
}

template <>
struct stage_program<score::share_of_sum> : plain_stage_program<score::share_of_sum> {
  template <class Program>
  KVEVICT_HOST_DEVICE static void run(const Program& p, const score::share_of_sum&, float* out, carver) {
    const auto scores = p.b.global(out, p.row.length);
    auto sum = p.b.template make_local<double>();
    p.b.each([&](int t) {
      sum[t] = 0;
      for (index_t j = t; j < p.row.length; j += p.b.threads()) sum[t] += static_cast<double>(scores.load(t, j));
    });
    divide_row(p, scores, reduce_block(p.b, sum, p.shared.sums, [](double x, double y) { return x + y; }));
  }
};

template <>
struct stage_program<score::share_of_max> : plain_stage_program<score::share_of_max> {
  template <class Program>
  KVEVICT_HOST_DEVICE static void run(const Program& p, const score::share_of_max&, float* out, carver) {
    const auto scores = p.b.global(out, p.row.length);
    const auto larger = [](float best, float x) { return x > best || best != best ? x : best; };
    auto peak = p.b.template make_local<float>();
    p.b.each([&](int t) {
      peak[t] = scores.load(t, least(static_cast<index_t>(t), p.row.length - 1));
      for (index_t j = t; j < p.row.length; j += p.b.threads()) peak[t] = larger(peak[t], scores.load(t, j));
    });
    divide_row(p, scores, reduce_block(p.b, peak, p.shared.peaks, larger));
  }
};

template <>
struct stage_program<score::power> : plain_stage_program<score::power> {
  template <class Program>
  KVEVICT_HOST_DEVICE static void run(const Program& p, const score::power& power, float* out, carver) {
    const auto scores = p.b.global(out, p.row.length);
    p.write(
        scores, [&](int t, index_t j) { return power.offset + scores.load(t, j); },
        [&](int, float base) {
          float result = 1;
          KVEVICT_ROLLED for (index_t e = 0; e < power.exponent; ++e) result *= base;
          return result;
        });
    p.b.sync();
  }
};

}  // namespace kvevict::detail
