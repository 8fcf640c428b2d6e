// SPDX-License-Identifier: MIT
#include <chrono>
#include <kvevict/cpu.hpp>
#include <kvevict/cpu/openmp.hpp>
#include <vector>

#include "huge_pages.hpp"
#include "limits.hpp"

/// kvevict as a shared library, for a script that holds the tensors: both sides then work on the same memory and,
/// since torch brings the OpenMP runtime that this library finds loaded, on the same threads.

using namespace kvevict;

extern "C" {

/// One layer of one sequence. The script fills in all but the times.
struct peer_job {
  const void* queries;       ///< [window][query_heads][dim]
  const float* log_sum_exp;  ///< natural, [query_heads][window]; null: not given
  void* keys;                ///< [kv_heads][length][dim]
  void* values;
  void* kept_keys;  ///< [kept][dim], one kv_head after another; null: compacted in place
  void* kept_values;
  index_t* slots;     ///< [kv_heads * budget]
  offset_t* offsets;  ///< [kv_heads + 1]
  index_t kv_heads, query_heads, length, dim, window, budget;
  index_t threads;
  index_t bf16;      ///< else fp32
  index_t adaptive;  ///< AdaKV, else SnapKV
  double score_seconds, select_seconds, compact_seconds;
};

const char* peer_run(peer_job* job);  ///< null, or what is wrong
const char* peer_compiler();
void peer_limits(int threads, double* gflops, double* copy_gbs);
}

namespace {

/// What an engine holds once for all its layers.
struct {
  big_vector<float> scores;
  std::vector<offset_t> score_offsets, kept_offsets;
  big_vector<cache_line> scratch;
} memory;

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

template <class E, class Policy, class Inputs>
status run(peer_job& job, const Policy& policy, const Inputs& in) {
  const cpu on{openmp{.threads = job.threads}};
  const auto& view = in.cache;
  const selection kept{{job.slots, selection_capacity(policy, in)}, {job.offsets, job.kv_heads + 1}};
  memory.scores.resize(std::size_t(job.kv_heads) * std::size_t(job.length));
  memory.score_offsets.assign(1, 0);
  for (index_t h = 0; h < job.kv_heads; ++h) memory.score_offsets.push_back(memory.score_offsets.back() + job.length);
  memory.kept_offsets.resize(std::size_t(job.kv_heads) + 1);
  const std::size_t lines = cache_lines(workspace_bytes(on, policy, in));
  if (memory.scratch.size() < lines) memory.scratch.resize(lines);  // never shrinks: to grow again is to be cleared
  const ragged<float> scores{memory.scores.data(), memory.score_offsets.data(), job.kv_heads};

  const double start = now();
  if (const status s = score_rows(on, policy, in, scores, workspace_of(memory.scratch)); !s.ok()) return s;
  const double scored = now();
  const row_scores given{view.shape(), {scores.data, scores.offsets, scores.rows}};
  if (const status s = select(on, policy, given, kept, workspace_of(memory.scratch)); !s.ok()) return s;
  const double selected = now();
  if (job.kept_keys == nullptr) {
    if (const status s = compact_in_place(on, view, kept); !s.ok()) return s;
  } else {
    flat_offsets(kept, 0, memory.kept_offsets.data());
    const flat close{memory.kept_offsets.data(), job.dim};
    const cache to{view.shape(), index_t{1}, entries{static_cast<E*>(job.kept_keys), close, job.dim},
                   entries{static_cast<E*>(job.kept_values), close, job.dim}};
    if (const status s = gather(on, view, kept, to); !s.ok()) return s;
  }
  job.score_seconds = scored - start;
  job.select_seconds = selected - scored;
  job.compact_seconds = now() - selected;
  return {};
}

template <class E, class Policy>
status run(peer_job& job, const Policy& policy) {
  const strided order = hnd(1, job.kv_heads, job.length, job.dim);
  const cache view{cache_shape{1, 1, job.kv_heads}, job.length, entries{static_cast<E*>(job.keys), order, job.dim},
                   entries{static_cast<E*>(job.values), order, job.dim}};
  const query_view queries{
      entries{static_cast<const E*>(job.queries), nhd(1, job.query_heads, job.window, job.dim), job.dim},
      job.query_heads, job.window};
  if (job.log_sum_exp == nullptr) return run<E>(job, policy, inputs{view, queries});
  const log_sum_exp_view given{job.log_sum_exp, hnd(1, job.query_heads, job.window, 1)};
  return run<E>(job, policy, inputs{view, queries, given});
}

template <class E>
status run(peer_job& job) {
  // kvpress averages where the authors take the maximum, and its safeguard is a minimum.
  const snapkv<score::avg_pool> base{.budget = slots(job.budget), .window = job.window, .pool_width = 5};
  return job.adaptive ? run<E>(job, adakv{base, 0.2, budget::safeguard::minimum}) : run<E>(job, base);
}

}  // namespace

const char* peer_run(peer_job* job) {
  const status s = job->bf16 ? run<bfloat16>(*job) : run<float>(*job);
  return s.ok() ? nullptr : s.sentence;
}

const char* peer_compiler() {
#if defined(__clang__)
  return __VERSION__;
#else
  return "g++ " __VERSION__;
#endif
}

void peer_limits(int threads, double* gflops, double* copy_gbs) {
  const machine_limits& m = limits(threads);
  *gflops = m.gflops;
  *copy_gbs = m.copy_gbs;
}
