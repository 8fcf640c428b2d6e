// SPDX-License-Identifier: MIT
#pragma once

#include <benchmark/benchmark.h>

#include <chrono>
#include <cstdlib>
#include <kvevict/cpu/openmp.hpp>
#include <thread>

#include "huge_pages.hpp"
#include "limits.hpp"
#include "oracle.hpp"
#include "storage.hpp"

/// What every benchmark shares: tensors, a check before the clock starts, and figures beside the limits of the run.
namespace bench {

using kvevict::index_t;
using kvevict::offset_t;

inline int all_threads() { return static_cast<int>(std::thread::hardware_concurrency()); }

/// Llama-3-8B's layer: 8 kv_heads, 4 query_heads each.
inline constexpr index_t kv_heads = 8, group = 4;

/// Keys and values as the engine stores them, and the same numbers as floats for the oracle.
template <class E>
struct tensors {
  host::problem floats;
  big_vector<E> keys, values, queries;

  tensors(index_t length, index_t dim, index_t rows, index_t heads = kv_heads)
      : floats(heads, group, length, dim, dim, rows, 11) {
    const auto convert = [](std::vector<float>& from, big_vector<E>& to) {
      to.reserve(from.size());
      for (float& x : from) {
        to.push_back(host::element<E>(x));
        x = kvevict::to_float(to.back());
      }
    };
    convert(floats.keys, keys);
    convert(floats.values, values);
    convert(floats.queries, queries);
  }
  [[nodiscard]] auto cache() const {
    const auto& f = floats;
    const auto order = kvevict::hnd(1, f.kv_heads, f.length, f.dim);
    return kvevict::cache{kvevict::cache_shape{1, 1, f.kv_heads}, f.length, kvevict::entries{keys.data(), order, f.dim},
                          kvevict::entries{values.data(), order, f.dim}};
  }
  [[nodiscard]] auto query_rows() const {
    const auto& f = floats;
    return kvevict::query_view{
        kvevict::entries{queries.data(), kvevict::hnd(1, f.kv_heads * f.group, f.rows, f.dim), f.dim},
        f.kv_heads * f.group, f.rows};
  }
  [[nodiscard]] auto in() const { return kvevict::inputs{cache(), query_rows()}; }
};

/// The natural log-sum-exp of every query row, [query_heads][rows], as an attention kernel would return it.
inline std::vector<float> log_sum_exp(const host::problem& p) {
  std::vector<float> out(std::size_t(p.kv_heads * p.group * p.rows));
#pragma omp parallel for
  for (index_t q = 0; q < p.kv_heads * p.group; ++q)
    for (index_t r = 0; r < p.rows; ++r) {
      double sum = 0;
      const float* query = p.queries.data() + std::size_t((q * p.rows + r) * p.dim);
      for (index_t j = 0; j <= p.length - p.rows + r; ++j) {
        const float* key =
            p.keys.data() + (std::size_t(q / p.group) * std::size_t(p.length) + std::size_t(j)) * std::size_t(p.dim);
        sum += std::exp(std::inner_product(query, query + p.dim, key, 0.0F) / std::sqrt(float(p.dim)));
      }
      out[std::size_t(q * p.rows + r)] = float(std::log(sum));
    }
  return out;
}

/// Stops the whole run: a figure of a wrong result is worth nothing.
inline void verify(bool right, const char* what) {
  if (right) return;
  std::fprintf(stderr, "wrong result, nothing was timed: %s\n", what);
  std::exit(1);
}

inline void verify_near(const std::vector<float>& got, const oracle::vec& expected, const char* what) {
  const double top = *std::max_element(expected.begin(), expected.end());
  for (std::size_t j = 0; j < expected.size(); ++j)
    verify(std::abs(got[j] - expected[j]) <= 2e-5 * std::abs(top), what);
}

/// Runs the loop of a benchmark; seconds of one iteration, for figures that Google Benchmark cannot form.
template <class F>
double seconds_of(benchmark::State& state, const F& f) {
  const auto start = std::chrono::steady_clock::now();
  for (auto _ : state) f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() /
         static_cast<double>(state.iterations());
}

/// Useful floating-point operations of one iteration, in GFLOP/s and as a share of the run's multiply-add peak.
inline void count_flops(benchmark::State& state, double seconds, double flops, int threads) {
  state.counters["GFLOP/s"] = flops / 1e9 / seconds;
  state.counters["of_peak"] = flops / 1e9 / seconds / limits(threads).gflops;
}
/// Bytes that one iteration must read and write, in GB/s and as a share of the run's memcpy.
inline void count_bytes(benchmark::State& state, double seconds, double bytes, int threads) {
  state.counters["GB/s"] = bytes / 1e9 / seconds;
  state.counters["of_copy"] = bytes / 1e9 / seconds / limits(threads).copy_gbs;
}
inline void count_keys(benchmark::State& state, double seconds, double keys) {
  state.counters["ns/key"] = 1e9 * seconds / keys;
}

/// A selection with its memory, and a workspace.
struct outputs {
  std::vector<index_t> slots;
  std::vector<offset_t> offsets;
  big_vector<kvevict::cache_line> scratch;

  outputs(offset_t slot_count, offset_t rows, offset_t bytes)
      : slots(std::size_t(slot_count)), offsets(std::size_t(rows) + 1), scratch(kvevict::cache_lines(bytes)) {}
  [[nodiscard]] kvevict::selection kept() { return {slots, offsets}; }
  [[nodiscard]] kvevict::workspace workspace() { return kvevict::workspace_of(scratch); }
};

}  // namespace bench
