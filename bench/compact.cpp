// SPDX-License-Identifier: MIT
#include "support.hpp"

using namespace kvevict;
using namespace bench;

namespace {

constexpr index_t dim = 128;

/// Every `length / budget`-th slot on average, drawn by chance.
template <class E>
struct moving {
  tensors<E> from;
  outputs out;
  double bytes;  // read and written

  static kvevict::random chance(index_t budget) { return {.budget = slots(budget)}; }

  moving(index_t length, index_t budget)
      : from(length, dim, 1),
        out(offset_t{kv_heads} * budget, kv_heads, workspace_bytes(cpu{}, chance(budget), from.in())),
        bytes(2.0 * 2 * kv_heads * budget * dim * double(sizeof(E))) {
    verify(evict(cpu{}, chance(budget), from.in(), out.kept(), out.workspace()).ok(), "evict");
  }
  [[nodiscard]] bool moved(const big_vector<E>& to, offset_t row_stride) {
    for (index_t h = 0; h < kv_heads; ++h)
      for (index_t k = 0; k < out.kept()[h].size(); ++k) {
        const offset_t source = (offset_t{h} * from.floats.length + out.kept()[h][k]) * dim;
        if (std::memcmp(&to[std::size_t(h * row_stride + k * dim)], &from.keys[std::size_t(source)], dim * sizeof(E)) !=
            0)
          return false;
      }
    return true;
  }
};

template <class E>
void into_new_memory(benchmark::State& state) {
  const auto length = index_t(state.range(0)), budget = index_t(state.range(1));
  const cpu on{openmp{.threads = index_t(state.range(2))}};
  moving<E> m(length, budget);
  big_vector<E> keys(std::size_t(kv_heads * budget * dim)), values(keys.size());
  const strided order = hnd(1, kv_heads, budget, dim);
  const cache to{cache_shape{1, 1, kv_heads}, budget, entries{keys.data(), order, dim},
                 entries{values.data(), order, dim}};
  verify(gather(on, m.from.cache(), m.out.kept(), to).ok() && m.moved(keys, offset_t{budget} * dim), "gather");
  const double seconds =
      seconds_of(state, [&] { benchmark::DoNotOptimize(gather(on, m.from.cache(), m.out.kept(), to).ok()); });
  count_bytes(state, seconds, m.bytes, int(state.range(2)));
}

template <class E>
void in_place(benchmark::State& state) {
  const auto length = index_t(state.range(0)), budget = index_t(state.range(1));
  const cpu on{openmp{.threads = index_t(state.range(2))}};
  moving<E> m(length, budget);
  big_vector<E> keys = m.from.keys, values = m.from.values;
  const strided order = hnd(1, kv_heads, length, dim);
  const cache view{cache_shape{1, 1, kv_heads}, length, entries{keys.data(), order, dim},
                   entries{values.data(), order, dim}};
  verify(compact_in_place(on, view, m.out.kept()).ok() && m.moved(keys, offset_t{length} * dim), "in place");
  const double seconds =
      seconds_of(state, [&] { benchmark::DoNotOptimize(compact_in_place(on, view, m.out.kept()).ok()); });
  count_bytes(state, seconds, m.bytes, int(state.range(2)));
}

/// Those entries read and written nowhere: what the memory takes to deliver them, an anchor. Half of a cache drawn by
/// chance costs it nearly as much as all, because memory is read in larger pieces than entries.
template <class E>
void read_alone(benchmark::State& state) {
  const auto length = index_t(state.range(0)), budget = index_t(state.range(1));
  const int threads = int(state.range(2));
  moving<E> m(length, budget);
  using line [[gnu::vector_size(64)]] = std::uint64_t;
  const auto read = [&](const big_vector<E>& from, index_t h) {
    line all{};
    for (const index_t slot : m.out.kept()[h]) {
      const auto* entry = reinterpret_cast<const char*>(&from[std::size_t((offset_t{h} * length + slot) * dim)]);
      for (std::size_t at = 0; at < dim * sizeof(E); at += sizeof(line)) {
        line one;
        std::memcpy(&one, entry + at, sizeof one);
        all ^= one;
      }
    }
    benchmark::DoNotOptimize(all);
  };
  const double seconds = seconds_of(state, [&] {
#pragma omp parallel for num_threads(threads)
    for (index_t h = 0; h < kv_heads; ++h) {
      read(m.from.keys, h);
      read(m.from.values, h);
    }
  });
  count_bytes(state, seconds, m.bytes / 2, threads);
}

void sizes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"keys", "budget", "threads"})->UseRealTime()->Unit(benchmark::kMicrosecond);
  for (const std::int64_t threads : {1, all_threads()}) {
    b->Args({32768, 1024, threads});
    b->Args({32768, 16384, threads});
  }
}

BENCHMARK(into_new_memory<float>)->Name("compact/gather/fp32")->Apply(sizes);
BENCHMARK(into_new_memory<bfloat16>)->Name("compact/gather/bf16")->Apply(sizes);
BENCHMARK(read_alone<float>)->Name("compact/anchor/read_alone/fp32")->Apply(sizes);
BENCHMARK(read_alone<bfloat16>)->Name("compact/anchor/read_alone/bf16")->Apply(sizes);
BENCHMARK(in_place<float>)->Name("compact/in_place/fp32")->Apply(sizes);
BENCHMARK(in_place<bfloat16>)->Name("compact/in_place/bf16")->Apply(sizes);

}  // namespace
