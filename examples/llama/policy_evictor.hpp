// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <kvevict/cpu/openmp.hpp>
#include <kvevict/policy/spec.hpp>
#include <numeric>
#include <stdexcept>

#include "eviction.hpp"

/// The glue between the engine and a policy: a decode state per layer, and the four calls of decode/state.hpp.
template <class Policy>
class policy_evictor final : public evictor {
 public:
  policy_evictor(const Policy& policy, const llama_config& model, kv_memory& cache, int prompt_length)
      : policy_(policy),
        model_(model),
        cache_(cache),
        states_(static_cast<std::size_t>(model.layers)),
        rooms_(layers_at_once(model.kv_heads)) {
    for (int layer = 0; layer < model.layers; ++layer) {
      kvevict::sequence_extent extent{.shape = {1, 1, model.kv_heads, layer, model.layers},
                                      .capacity = cache.capacity()};
      extent.query_heads = model.query_heads;
      extent.head_dim = model.dims;
      extent.prompt_length = prompt_length;
      auto& memory = states_[static_cast<std::size_t>(layer)];
      memory.resize(kvevict::cache_lines(kvevict::state_bytes(policy, extent)));
      require(start(policy, extent, state(layer)));
    }
  }

  void after_attention(const layer_rows& rows, int slack) override {
    using namespace kvevict;
    const auto start_time = std::chrono::steady_clock::now();
    const auto since_start = [&] {
      return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_time).count();
    };
    const auto held = cache_.view(rows.layer, model_.layers);
    const strided order{.head = model_.dims, .slot = model_.query_heads * model_.dims};
    const inputs in{held, query_view{entries{rows.queries, order, model_.dims}, model_.query_heads, rows.tokens},
                    log_sum_exp_view{rows.log_sum_exp, strided{.head = rows.tokens, .slot = 1}}};
    const decode_state of = state(rows.layer);
    require(observe(on_, policy_, of, in, rooms_[0].workspace(workspace_bytes(on_, policy_, of, in))));
    observe_seconds_ += since_start();
    if (slack >= 0 && is_full(rows.layer, slack)) due_.push_back(rows.layer);
    if (due_.size() == rooms_.size() || (!due_.empty() && rows.layer + 1 == model_.layers)) evict_due();
    seconds_ += since_start();
  }

  [[nodiscard]] std::vector<int> positions(int layer, int kv_head) const override {
    const auto all = state(layer).positions({0, 0, kv_head, kv_head});
    return {all.begin(), all.end()};
  }
  [[nodiscard]] std::int64_t state_bytes() const override {
    std::int64_t bytes = 0;
    for (const auto& memory : states_) bytes += static_cast<std::int64_t>(memory.size() * sizeof(kvevict::cache_line));
    return bytes;
  }
  [[nodiscard]] double seconds() const override { return seconds_; }
  [[nodiscard]] double observe_seconds() const override { return observe_seconds_; }

 private:
  /// Memory of one eviction.
  struct room {
    std::vector<kvevict::cache_line> scratch;
    std::vector<kvevict::index_t> slots;
    std::vector<kvevict::offset_t> offsets;

    [[nodiscard]] kvevict::workspace workspace(kvevict::offset_t bytes) {
      if (scratch.size() < kvevict::cache_lines(bytes)) scratch.resize(kvevict::cache_lines(bytes));
      return kvevict::workspace_of(scratch);
    }
  };

  /// Rows of one layer keep all threads busy if they divide among them, or are fewer; otherwise as many layers do.
  static std::size_t layers_at_once(int kv_heads) {
    const int threads = omp_get_max_threads();
    return kv_heads % threads == 0 || kv_heads < threads ? 1 : static_cast<std::size_t>(threads);
  }
  [[nodiscard]] bool is_full(int layer, int slack) {
    const int* lengths = cache_.lengths(layer);
    const kvevict::offset_t held = std::accumulate(lengths, lengths + model_.kv_heads, kvevict::offset_t{0});
    const auto in = kvevict::inputs{cache_.view(layer, model_.layers)};
    return held >= selection_capacity(policy_, state(layer), in) + kvevict::offset_t{slack} * model_.kv_heads;
  }
  /// Inside it each layer has one thread, unless it is the only one.
  void evict_due() {
    const auto count = static_cast<int>(due_.size());
    std::vector<kvevict::status> done(due_.size());
#pragma omp parallel for schedule(static, 1) num_threads(count)
    for (int i = 0; i < count; ++i) {
      const auto at = static_cast<std::size_t>(i);
      done[at] = make_room(due_[at], rooms_[at]);
    }
    due_.clear();
    for (const kvevict::status& s : done) require(s);
  }
  kvevict::status make_room(int layer, room& memory) {
    using namespace kvevict;
    const decode_state of = state(layer);
    const inputs in{cache_.view(layer, model_.layers)};
    memory.slots.resize(static_cast<std::size_t>(selection_capacity(policy_, of, in)));
    memory.offsets.resize(static_cast<std::size_t>(model_.kv_heads) + 1);
    const selection kept{memory.slots, memory.offsets};
    status s = evict(on_, policy_, of, in, kept, memory.workspace(workspace_bytes(on_, policy_, of, in)));
    if (s.ok()) s = compact_in_place(on_, in.cache, kept, side(of));
    if (!s.ok()) return s;
    retained_lengths(kept, cache_.lengths(layer));
    cache_.release(layer);
    return s;
  }
  [[nodiscard]] kvevict::decode_state<> state(int layer) const {
    auto& memory = states_[static_cast<std::size_t>(layer)];
    return kvevict::decode_state<>{kvevict::workspace_of(memory)};
  }
  static void require(const kvevict::status& s) {
    if (!s.ok()) throw std::runtime_error(std::string(s.argument) + ": " + s.sentence);
  }

  Policy policy_;
  llama_config model_;
  kv_memory& cache_;
  kvevict::cpu<kvevict::openmp> on_{kvevict::openmp{}};
  mutable std::vector<std::vector<kvevict::cache_line>> states_;  // the library writes to what a state points to
  std::vector<room> rooms_;                                       // as many as layers are evicted side by side
  std::vector<int> due_;
  double seconds_ = 0, observe_seconds_ = 0;
};

/// The evictor of a spec that has head-wise budgets, or has not.
template <bool Adaptive>
std::unique_ptr<evictor> make_kind(const std::string& spec, kvevict::amount budget, const llama_config& model,
                                   kv_memory& cache, int prompt_length) {
  std::unique_ptr<evictor> made;
  const std::string problem = kvevict::visit_policy(spec, budget, [&](const auto& policy) {
    if constexpr (Adaptive == requires { policy.base; })
      made =
          std::make_unique<policy_evictor<std::remove_cvref_t<decltype(policy)>>>(policy, model, cache, prompt_length);
  });
  if (!problem.empty()) throw std::runtime_error(problem);
  return made;
}
