// SPDX-License-Identifier: MIT
#include "support.hpp"

using namespace kvevict;
using namespace bench;

namespace {

constexpr index_t steps = 64;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Decode steps of H2O fed by the engine's attention: so many layers of 32 query_heads in one call, so many cached
/// slots. `copies` is their time over that of memcpys of the running sums, [layers][query_heads][slots].
void h2o_update(benchmark::State& state) {
  const auto length = index_t(state.range(0)), layers = index_t(state.range(1));
  const index_t capacity = length + steps, query_heads = kv_heads * group;
  const cpu on{openmp{.threads = index_t(state.range(2))}};
  const h2o policy{.budget = slots(length)};
  const offset_t of_layer = offset_t{query_heads} * capacity;
  std::vector<cache_line> memory_of_attention(cache_lines(4 * layers * of_layer));  // aligned
  auto* const attention = reinterpret_cast<float*>(memory_of_attention.data());
  std::fill_n(attention, layers * of_layer, 1.0F / float(length));
  std::vector<index_t> lengths(std::size_t(layers * kv_heads), length);
  float key = 0;
  const key_cache cached{cache_shape{layers, 1, kv_heads}, lengths.data(), entries{&key, strided{}, 1}};
  const auto rows = [&](index_t count, index_t stride) {
    const strided order{.layer = of_layer, .head = capacity, .slot = stride};
    return attention_view{entries{attention, order, capacity}, query_heads, count};
  };
  const sequence_extent extent{.shape = cached.shape(), .capacity = capacity, .query_heads = query_heads};
  std::vector<cache_line> memory(cache_lines(state_bytes<row_feed::attention>(policy, extent)));
  const decode_state<row_feed::attention> sequence{workspace_of(memory)};
  verify(start(policy, extent, sequence).ok(), "start");
  const inputs prompt{cached, rows(length, 0)};  // every row of the prompt gives the same
  std::vector<cache_line> scratch(cache_lines(workspace_bytes(on, policy, sequence, prompt)) + 64);
  verify(observe(on, policy, sequence, prompt, workspace_of(scratch)).ok(), "observe");
  const std::vector<cache_line> saved = memory;

  const inputs step{cached, rows(1, 0)};
  std::vector<float> sums(std::size_t(layers * query_heads * length)), copy(sums.size());
  double total = 0, copies = 0;
  for (auto _ : state) {
    memory = saved;
    std::fill(lengths.begin(), lengths.end(), length);
    auto begin = std::chrono::steady_clock::now();
    for (index_t t = 0; t < steps; ++t) {
      for (index_t& n : lengths) ++n;
      verify(observe(on, policy, sequence, step, workspace_of(scratch)).ok(), "observe");
    }
    const double seconds = seconds_since(begin);
    state.SetIterationTime(seconds);
    total += seconds;
    begin = std::chrono::steady_clock::now();
    for (index_t t = 0; t < steps; ++t) {
      std::memcpy(copy.data(), sums.data(), sums.size() * sizeof(float));
      benchmark::ClobberMemory();
    }
    copies += seconds_since(begin);
  }
  verify(sequence.seen() == length + steps, "tokens seen");
  state.counters["us/step"] = 1e6 * total / double(state.iterations()) / steps;
  state.counters["copies"] = total / copies;
}

/// One token appended to every row of 32 layers.
void append_step(benchmark::State& state) {
  const index_t layers = 32, dim = 128, length = 1024, capacity = length + steps;
  const cpu on{openmp{.threads = index_t(state.range(0))}};
  const cache_shape shape{layers, 1, kv_heads};
  const auto order = [&](index_t slots_of_row) {
    strided o = hnd(1, kv_heads, slots_of_row, dim);
    o.layer = offset_t{kv_heads} * slots_of_row * dim;
    return o;
  };
  big_vector<bfloat16> keys(std::size_t(order(capacity).layer * layers)), values(keys.size());
  big_vector<bfloat16> key(std::size_t(order(1).layer * layers), to_bfloat16(1)), value(key.size(), to_bfloat16(2));
  std::vector<index_t> lengths(std::size_t(layers * kv_heads), length), one(lengths.size(), 1);
  const cache held{shape, lengths.data(), entries{keys.data(), order(capacity), dim},
                   entries{values.data(), order(capacity), dim}};
  const cache token{shape, one.data(), entries{key.data(), order(1), dim}, entries{value.data(), order(1), dim}};
  const double seconds = seconds_of(state, [&] {
    std::fill(lengths.begin(), lengths.end(), length);
    for (index_t t = 0; t < steps; ++t) verify(append(on, token, held, lengths).ok(), "append");
  });
  verify(to_float(keys.back()) == 1 && to_float(values.back()) == 2, "appended");
  state.counters["us/step"] = 1e6 * seconds / steps;
}

/// A whole step on average: append, observe by queries, and every 64 steps evict to the budget and compact.
template <class Policy>
void decode_steps(benchmark::State& state) {
  const auto budget = index_t(state.range(0));
  const index_t dim = 128, length = budget + steps;
  const cpu on{openmp{.threads = index_t(state.range(1))}};
  const Policy policy{.budget = slots(budget)};
  const tensors<bfloat16> text(length, dim, length);
  big_vector<bfloat16> keys = text.keys, values = text.values;
  std::vector<index_t> lengths(kv_heads, length), one(kv_heads, 1);
  const strided order = hnd(1, kv_heads, length, dim), rows = hnd(1, kv_heads * group, length, dim);
  const cache_shape shape{1, 1, kv_heads};
  const cache held{shape, lengths.data(), entries{keys.data(), order, dim}, entries{values.data(), order, dim}};
  const cache token{shape, one.data(), entries{text.keys.data(), order, dim}, entries{text.values.data(), order, dim}};
  const sequence_extent extent{
      .shape = shape, .capacity = length, .query_heads = kv_heads * group, .head_dim = dim, .prompt_length = length};
  std::vector<cache_line> memory(cache_lines(state_bytes(policy, extent)));
  const decode_state sequence{workspace_of(memory)};
  verify(start(policy, extent, sequence).ok(), "start");
  const auto by = [&](index_t count) {
    return inputs{held, query_view{entries{text.queries.data(), rows, dim}, kv_heads * group, count}};
  };
  std::vector<cache_line> scratch(cache_lines(workspace_bytes(on, policy, sequence, by(length))));
  outputs out(offset_t{kv_heads} * budget, kv_heads, 0);
  const auto shorten = [&] {
    verify(evict(on, policy, sequence, inputs{held}, out.kept(), workspace_of(scratch)).ok(), "evict");
    verify(compact_in_place(on, held, out.kept(), side(sequence)).ok(), "compact");
    retained_lengths(out.kept(), lengths.data());
  };
  verify(observe(on, policy, sequence, by(length), workspace_of(scratch)).ok(), "observe");
  shorten();
  const double seconds = seconds_of(state, [&] {
    for (index_t t = 0; t < steps; ++t) {
      verify(append(on, token, held, lengths).ok(), "append");
      verify(observe(on, policy, sequence, by(1), workspace_of(scratch)).ok(), "observe");
    }
    shorten();
  });
  state.counters["us/step"] = 1e6 * seconds / steps;
}

void sizes(benchmark::internal::Benchmark* b) {
  b->Unit(benchmark::kMicrosecond);
  for (const std::int64_t threads : {1, all_threads()})
    for (const std::int64_t slots_held : {1024, 4096}) b->Args({slots_held, threads});
}
void updates(benchmark::internal::Benchmark* b) {
  b->ArgNames({"slots", "layers", "threads"})->Unit(benchmark::kMicrosecond)->UseManualTime();
  for (const std::int64_t threads : {1, all_threads()})
    b->Args({1024, 1, threads})->Args({4096, 1, threads})->Args({1024, 32, threads});
}
BENCHMARK(h2o_update)->Name("decode/h2o_from_attention")->Apply(updates);
BENCHMARK(append_step)
    ->Name("decode/append_to_32_layers")
    ->ArgName("threads")
    ->Arg(1)
    ->Arg(all_threads())
    ->Unit(benchmark::kMicrosecond)
    ->UseRealTime();
BENCHMARK(decode_steps<h2o>)->Name("decode/h2o")->ArgNames({"budget", "threads"})->Apply(sizes)->UseRealTime();
BENCHMARK(decode_steps<ahakv<>>)->Name("decode/ahakv")->ArgNames({"budget", "threads"})->Apply(sizes)->UseRealTime();
BENCHMARK(decode_steps<snapkv<>>)->Name("decode/snapkv")->ArgNames({"budget", "threads"})->Apply(sizes)->UseRealTime();

}  // namespace
