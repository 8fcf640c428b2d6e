// SPDX-License-Identifier: MIT
#include <Eigen/Core>

#include "support.hpp"

using namespace kvevict;
using namespace bench;

namespace {

constexpr index_t window = 32;

/// Everything that score_rows needs, for one scorer.
template <class Policy, class In>
struct scoring {
  std::vector<float> scores;
  std::vector<offset_t> offsets{0};
  big_vector<cache_line> scratch;
  openmp threads;

  scoring(const Policy& policy, const In& in, int n) : threads{.threads = n} {
    const cache_shape shape = in.cache.shape();
    for (index_t r = 0; r < shape.rows(); ++r) offsets.push_back(offsets.back() + in.cache.length(shape.row(r)));
    scores.resize(std::size_t(offsets.back()));
    scratch.resize(cache_lines(workspace_bytes(cpu{threads}, policy, in)));
  }
  void run(const Policy& policy, const In& in) {
    const status s =
        score_rows(cpu{threads}, policy, in, ragged<float>{scores.data(), offsets.data(), index_t(offsets.size() - 1)},
                   workspace_of(scratch));
    verify(s.ok(), s.sentence);
  }
  [[nodiscard]] std::vector<float> head(index_t h) const {
    return {scores.begin() + offsets[std::size_t(h)], scores.begin() + offsets[std::size_t(h) + 1]};
  }
};

constexpr auto window_policy() { return host::composed{score::attention<>{.window = window} | score::group_mean{}}; }

/// Attention of 32 rows x 4 query_heads per kv_head; useful operations are those of the product Q K^T.
template <class E, bool WithLse>
void window_scoring(benchmark::State& state) {
  const auto length = index_t(state.range(0)), dim = index_t(state.range(1));
  const int threads = int(state.range(2));
  const tensors<E> t(length, dim, window);
  const auto policy = window_policy();
  const std::vector<float> lse = WithLse ? log_sum_exp(t.floats) : std::vector<float>{};
  double seconds = 0;
  const auto time = [&](const auto& in) {
    scoring work(policy, in, threads);
    work.run(policy, in);
    for (const index_t h : {0, kv_heads - 1})
      verify_near(work.head(h), oracle::window_mean(t.floats, h, window), "window scoring");
    seconds = seconds_of(state, [&] { work.run(policy, in); });
  };
  if constexpr (WithLse)
    time(inputs{t.cache(), t.query_rows(), log_sum_exp_view{lse.data(), {.head = window, .slot = 1}}});
  else
    time(t.in());
  count_flops(state, seconds, 2.0 * kv_heads * group * window * dim * length, threads);
  count_bytes(state, seconds, double(sizeof(E)) * kv_heads * dim * length, threads);
}

/// The same product by Eigen, without softmax and sums, into memory: an anchor.
void eigen_product(benchmark::State& state) {
  const auto length = index_t(state.range(0)), dim = index_t(state.range(1));
  const tensors<float> t(length, dim, window);
  using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  matrix out(length, group * window);
  Eigen::setNbThreads(1);
  const double seconds = seconds_of(state, [&] {
    for (index_t h = 0; h < kv_heads; ++h) {
      const Eigen::Map<const matrix> keys(t.keys.data() + std::int64_t{h} * length * dim, length, dim);
      const Eigen::Map<const matrix> queries(t.queries.data() + std::int64_t{h} * group * window * dim, group * window,
                                             dim);
      out.noalias() = keys * queries.transpose();
      benchmark::DoNotOptimize(out.data());
    }
  });
  count_flops(state, seconds, 2.0 * kv_heads * group * window * dim * length, 1);
}

/// Accumulated attention of all rows of one kv_head; useful operations are those of the causal half.
void all_rows(benchmark::State& state) {
  const auto length = index_t(state.range(0)), dim = index_t(state.range(1));
  const int threads = int(state.range(2));
  const tensors<float> t(length, dim, length, index_t(threads));
  const host::composed policy{score::accumulated_attention() | score::group_mean{}};
  scoring work(policy, t.in(), threads);
  work.run(policy, t.in());
  verify_near(work.head(0), oracle::window_mean(t.floats, 0, length), "accumulated attention");
  const double seconds = seconds_of(state, [&] { work.run(policy, t.in()); });
  count_flops(state, seconds, double(threads) * group * dim * length * (length + 1.0), threads);
}

/// Scores that read every key once.
template <class Scorer, class E>
void keys_alone(benchmark::State& state) {
  const auto length = index_t(state.range(0)), dim = index_t(state.range(1));
  const int threads = int(state.range(2));
  const tensors<E> t(length, dim, 1);
  const host::composed policy{Scorer{}};
  scoring work(policy, t.in(), threads);
  work.run(policy, t.in());
  oracle::vec expected, mean(std::size_t(dim), 0.0);
  const auto key = [&](index_t j, index_t d) { return double(t.floats.keys[std::size_t(j * dim + d)]); };
  const auto norm = [&](index_t j) {
    double sum = 0;
    for (index_t d = 0; d < dim; ++d) sum += key(j, d) * key(j, d);
    return std::sqrt(sum);
  };
  for (index_t j = 0; j < length; ++j)
    for (index_t d = 0; d < dim; ++d) mean[std::size_t(d)] += key(j, d) / norm(j) / length;
  double mean_norm = 0;
  for (const double m : mean) mean_norm += m * m;
  for (index_t j = 0; j < length; ++j) {
    double dot = 0;
    for (index_t d = 0; d < dim; ++d) dot += key(j, d) * mean[std::size_t(d)];
    expected.push_back(std::is_same_v<Scorer, score::key_norm> ? -norm(j) : -dot / norm(j) / std::sqrt(mean_norm));
  }
  verify_near(work.head(0), expected, "keys alone");
  const double seconds = seconds_of(state, [&] { work.run(policy, t.in()); });
  count_bytes(state, seconds, double(sizeof(E)) * kv_heads * dim * length, threads);
}

void shapes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"keys", "dim", "threads"})->UseRealTime()->Unit(benchmark::kMillisecond);
  for (const std::int64_t threads : {1, all_threads()}) {
    b->Args({4096, 128, threads});
    b->Args({32768, 128, threads});
    b->Args({32768, 64, threads});
  }
}
void prompts(benchmark::internal::Benchmark* b) {
  b->ArgNames({"keys", "dim", "threads"})->UseRealTime()->Unit(benchmark::kMillisecond);
  for (const std::int64_t threads : {1, all_threads()}) b->Args({4096, 128, threads});
}

BENCHMARK(window_scoring<float, false>)->Name("score/window/fp32")->Apply(shapes);
BENCHMARK(window_scoring<float, true>)->Name("score/window_with_lse/fp32")->Apply(shapes);
BENCHMARK(window_scoring<bfloat16, false>)->Name("score/window/bf16")->Apply(shapes);
BENCHMARK(window_scoring<bfloat16, true>)->Name("score/window_with_lse/bf16")->Apply(shapes);
BENCHMARK(window_scoring<half, false>)->Name("score/window/fp16")->Apply(shapes);
BENCHMARK(eigen_product)
    ->Name("score/anchor/eigen_product")
    ->ArgNames({"keys", "dim"})
    ->Args({32768, 128})
    ->Args({32768, 64})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK(all_rows)->Name("score/all_rows/fp32")->Apply(prompts);
BENCHMARK(keys_alone<score::key_norm, float>)->Name("score/key_norm/fp32")->Apply(shapes);
BENCHMARK(keys_alone<score::key_norm, bfloat16>)->Name("score/key_norm/bf16")->Apply(shapes);
BENCHMARK(keys_alone<score::key_diff, float>)->Name("score/key_diff/fp32")->Apply(shapes);

}  // namespace
