// SPDX-License-Identifier: MIT
// What the calls cost that examples/course shows, on the layer that it shows: 3 kv_heads, 1500 slots, 64 dims, fp32,
// one thread. The test of the course compares their results; these numbers stand in examples/README.md.
#include <course.hpp>

#include "support.hpp"

using namespace kvevict;
using namespace bench;

namespace {

struct layer : layer_capture {
  layer() : layer_capture(capture_file(KVEVICT_CAPTURE).load(19)) {}
  [[nodiscard]] auto by(index_t count) {  // the last rows
    count = std::min(count, rows);
    return inputs{cache_of(*this, length), queries_of(*this, rows - count, count)};
  }
};

template <class Run>
auto* add(const std::string& name, const Run& run) {
  return benchmark::RegisterBenchmark(("course/" + name).c_str(), run)->Unit(benchmark::kMicrosecond);
}

template <class Call>
void time(benchmark::State& state, const Call& call) {
  for (auto _ : state) require(call());
}

template <class Policy>
auto scoring(const Policy& policy, index_t window) {
  return [=](benchmark::State& state) {
    layer c;
    const auto in = c.by(window);
    const offset_t offsets[] = {0, c.length, offset_t{2} * c.length, offset_t{3} * c.length};
    std::vector<float> scores(static_cast<std::size_t>(offsets[3]));
    outputs out(0, 0, workspace_bytes(cpu{}, policy, in));
    time(state, [&] { return score_rows(cpu{}, policy, in, {scores.data(), offsets, 3}, out.workspace()); });
  };
}

template <class Policy>
auto evicting(const Policy& policy) {
  return [=](benchmark::State& state) {
    layer c;
    const auto in = c.by(32);
    outputs out(selection_capacity(policy, in), c.kv_heads, workspace_bytes(cpu{}, policy, in));
    time(state, [&] { return evict(cpu{}, policy, in, out.kept(), out.workspace()); });
  };
}

/// Of scores that are there: budgets, and the selection by them.
template <class Rule>
auto selecting(const Rule& rule) {
  return [=](benchmark::State& state) {
    layer c;
    const composed policy{score::attention<>{.window = 1} | score::group_mean{}, rule};
    std::vector<float> flat;
    std::vector<offset_t> offsets{0};
    for (const std::vector<float>& row : scores_of(policy, c.by(1))) {
      flat.insert(flat.end(), row.begin(), row.end());
      offsets.push_back(offset_t(flat.size()));
    }
    const row_scores in{cache_shape{1, 1, 3}, {flat.data(), offsets.data(), 3}};
    outputs out(selection_capacity(policy, c.by(1)), 3, workspace_bytes(cpu{}, policy, in));
    time(state, [&] { return select(cpu{}, policy, in, out.kept(), out.workspace()); });
  };
}

void capacity(benchmark::State& state) {  // of all layers of SmolLM2-135M, at 32 k tokens
  const entries keys{static_cast<const bfloat16*>(nullptr), hnd(1, 3, 32768, 64), 64};
  cache view{cache_shape{30, 1, 3}, index_t{32768}, keys, keys};
  for (auto _ : state) {
    benchmark::DoNotOptimize(view);
    benchmark::DoNotOptimize(selection_capacity(snapkv<>{.budget = percent(25)}, inputs{view}));
  }
}

void moving(benchmark::State& state) {
  layer c;
  evicted kept = keep(snapkv<>{.budget = slots(300)}, c.by(32));
  time(state, [&] { return compact_in_place(cpu{}, cache_of(c, c.length), kept.view()); });
}

void turning(benchmark::State& state) {
  layer c;
  const key_cache keys{cache_shape{1, 1, 1}, index_t{300}, entries{c.keys.data(), hnd(1, 1, 300, c.dim), c.dim}};
  std::vector<double> frequencies;
  for (index_t i = 0; i < c.dim / 2; ++i) frequencies.push_back(std::pow(100000.0, -2.0 * i / c.dim));
  std::vector<index_t> one(300), other(300);
  std::iota(one.begin(), one.end(), 1000);
  std::iota(other.begin(), other.end(), 0);
  const position_view from{one.data(), strided{.slot = 1}}, to{other.data(), strided{.slot = 1}};
  time(state, [&] { return rotate_keys(cpu{}, keys, rope{frequencies.data(), c.dim}, from, to); });
}

/// A token of 500 after a prompt of 1000: append, observe, evict to 128 slots a head, compact.
template <class Policy>
void decoding(benchmark::State& state) {
  const Policy policy{.budget = slots(128)};
  layer text, own;
  const sequence_extent extent{
      .shape = {1, 1, own.kv_heads}, .capacity = own.length, .query_heads = own.query_heads, .head_dim = own.dim};
  std::vector<cache_line> memory(cache_lines(state_bytes(policy, extent))), scratch(1 << 16);
  const decode_state sequence{workspace_of(memory)};
  std::vector<index_t> lengths(std::size_t(own.kv_heads));
  cache view = cache_of(own, 0);
  view.lengths = lengths.data();
  outputs out(offset_t{own.kv_heads} * 128, own.kv_heads, 0);
  const auto step = [&](index_t seen, index_t count) {
    require(append(cpu{}, cache_of(text, count, seen), view, lengths));
    const inputs in{view, queries_of(text, seen, count)};
    require(observe(cpu{}, policy, sequence, in, workspace_of(scratch)));
    require(evict(cpu{}, policy, sequence, in, out.kept(), workspace_of(scratch)));
    require(compact_in_place(cpu{}, view, out.kept(), side(sequence)));
    retained_lengths(out.kept(), lengths.data());
  };
  for (auto _ : state) {
    require(start(policy, extent, sequence));
    std::fill(lengths.begin(), lengths.end(), 0);
    step(0, 1000);
    const auto begin = std::chrono::steady_clock::now();
    for (index_t seen = 1000; seen < text.length; ++seen) step(seen, 1);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    state.SetIterationTime(seconds.count() / (text.length - 1000));
  }
}
template <class Policy>
void add_decode() {  // the prompt before the tokens is not timed, and would be repeated for a second of them
  add(std::string("08/") + Policy::name, decoding<Policy>)->UseManualTime()->Iterations(5);
}

/// Eight dims of a key side by side, then the next slot; a dim's values side by side.
struct packed_keys {
  index_t dims, room;
  [[nodiscard]] offset_t offset(const row_id& row, index_t slot, index_t dim) const {
    return ((offset_t{row.kv_head} * (dims / 8) + dim / 8) * room + slot) * 8 + dim % 8;
  }
};

void own_memory(benchmark::State& state) {
  layer c;
  std::vector<half> keys(c.keys.size()), values(c.values.size());
  const cache view{
      cache_shape{1, 1, c.kv_heads}, c.length, entries{keys.data(), packed_keys{c.dim, c.length}, c.dim},
      entries{values.data(), strided{.head = offset_t{c.dim} * c.length, .slot = 1, .dim = c.length}, c.dim}};
  for (index_t h = 0; h < c.kv_heads; ++h)
    for (index_t slot = 0; slot < c.length; ++slot)
      for (index_t d = 0; d < c.dim; ++d)
        *view.keys().at({0, 0, h, h}, slot, d) = to_half(cache_of(c, c.length).keys()({0, 0, h, h}, slot, d));
  const adakv policy{snapkv<>{.budget = percent(25)}};
  const inputs in{view, queries_of(c, c.rows - 32, 32)};
  outputs out(selection_capacity(policy, in), c.kv_heads, workspace_bytes(cpu{}, policy, in));
  time(state, [&] { return evict(cpu{}, policy, in, out.kept(), out.workspace()); });
}

[[maybe_unused]] const bool added = [] {
  constexpr index_t window = 32;
  const auto alone = [](const auto& scorer) {
    return composed{scorer | score::group_mean{}, budget::uniform{slots(1)}};
  };
  const budget::uniform base{slots(150)};
  const auto watched = score::observation_window(window) | score::group_mean{} | score::avg_pool{.width = 5};
  const auto unlike = score::key_diff{} | score::power{.offset = 1, .exponent = 2};
  add("01/selection_capacity", capacity);
  add("02/sum_of_all_rows", scoring(alone(score::accumulated_attention()), score::all_rows));
  add("03/plain", scoring(alone(score::attention<>{.window = window}), window));
  add("03/step_gain", scoring(alone(score::attention<score::step_gain>{.window = window}), window));
  add("04/without_prior", evicting(ahakv<score::step_gain, recent_rows, score::no_prior>{.budget = percent(20)}));
  add("04/with_prior", evicting(ahakv<score::step_gain, recent_rows, score::value_prior>{.budget = percent(20)}));
  add("05/uniform", selecting(base));
  add("05/joint", selecting(budget::adaptive{base, 0.0}));
  add("05/mixture", selecting(budget::adaptive{base, 0.2}));
  add("05/minimum", selecting(budget::adaptive{base, 0.2, budget::safeguard::minimum}));
  add("06/select_300", selecting(budget::uniform{slots(300)}));
  add("07/compact_in_place_300", moving);
  add("07/rotate_300_keys", turning);
  add_decode<streaming_llm>();
  add_decode<h2o>();
  add_decode<tova>();
  add_decode<snapkv<>>();
  add_decode<keydiff>();
  add("09/snapkv", evicting(snapkv<>{.budget = percent(20)}));
  add("09/own_policy", evicting(composed{score::product{watched, unlike}, budget::uniform{percent(20)}}));
  add("10/plain_memory", evicting(adakv{snapkv<>{.budget = percent(25)}}));
  add("10/own_memory", own_memory);
  return true;
}();

}  // namespace
