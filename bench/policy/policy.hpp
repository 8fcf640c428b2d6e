// SPDX-License-Identifier: MIT
#pragma once

#include "support.hpp"

namespace bench {

/// A policy's whole job on one layer: score, budget, select, gather into new memory; keep 1024 slots of 128 dims, bf16.
/// Beside it stands a copy of the whole cache, which is what a policy without compiled code starts with.
template <class Policy>
void whole_policy(benchmark::State& state, const Policy& policy) {
  using namespace kvevict;
  const auto length = index_t(state.range(0));
  const auto rows = index_t(state.range(1));
  const int threads = int(state.range(2));
  const cpu on{openmp{.threads = threads}};
  constexpr index_t dim = 128;
  const tensors<bfloat16> t(length, dim, rows);
  const auto in = t.in();
  outputs out(selection_capacity(policy, in), kv_heads, workspace_bytes(on, policy, in));
  std::vector<bfloat16> keys(out.slots.size() * dim), values(keys.size());
  std::vector<offset_t> offsets(kv_heads + 1);
  const auto run = [&] {
    verify(evict(on, policy, in, out.kept(), out.workspace()).ok(), "evict");
    flat_offsets(out.kept(), 0, offsets.data());
    const cache to{cache_shape{1, 1, kv_heads}, index_t{1}, entries{keys.data(), flat{offsets.data(), dim}, dim},
                   entries{values.data(), flat{offsets.data(), dim}, dim}};
    verify(gather(on, t.cache(), out.kept(), to).ok(), "gather");
  };
  run();
  // The scores were checked by score/*; here the selection is, against the order of those scores.
  const auto scores = host::score(policy, in);
  std::vector<oracle::pool_row> pool;
  std::vector<index_t> budgets;
  for (index_t h = 0; h < kv_heads; ++h) {
    const index_t nominal = index_t(std::min<offset_t>(length, out.offsets.back() / kv_heads));
    const protected_slots safe = policy.protection().of(length, nominal);
    pool.push_back({scores[std::size_t(h)], nominal, safe.sinks, safe.recent});
    budgets.push_back(nominal);
  }
  if constexpr (requires { policy.floor; }) budgets = oracle::adaptive(pool, policy.floor, policy.safeguard);
  for (index_t h = 0; h < kv_heads; ++h)
    verify(std::ranges::equal(out.kept()[h], oracle::select(pool[std::size_t(h)].scores, budgets[std::size_t(h)],
                                                            pool[std::size_t(h)].sinks, pool[std::size_t(h)].recent)),
           "the policy's selection");
  const double seconds = seconds_of(state, run);
  count_keys(state, seconds, double(kv_heads) * length);
  const double cache_bytes = 2.0 * 2 * kv_heads * length * dim * sizeof(bfloat16);
  state.counters["copies"] = seconds * 1e9 * limits(threads).copy_gbs / cache_bytes;
}

/// Registers a policy: 4 k and 32 k keys and a window of query rows, or one row per key.
template <class Policy>
bool add(const Policy& policy, index_t rows, const std::string& name = Policy::name) {
  auto* b = benchmark::RegisterBenchmark(("policy/" + name).c_str(),
                                         [policy](benchmark::State& s) { whole_policy(s, policy); });
  b->ArgNames({"keys", "rows", "threads"})->UseRealTime()->Unit(benchmark::kMillisecond);
  for (const int threads : {1, all_threads()})
    for (const index_t keys : {4096, 32768})
      if (rows != kvevict::score::all_rows || keys == 4096) b->Args({keys, std::min(rows, keys), threads});
  return true;
}

}  // namespace bench
