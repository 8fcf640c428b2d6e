// SPDX-License-Identifier: MIT
// One call of every entry point, for policies that differ in what they launch.
#include <kvevict/cuda.cuh>

#include "launches.hpp"

using namespace kvevict;

namespace {

/// Memory of the pretended device: an address that nobody may read.
template <class T>
[[nodiscard]] T* there() {
  return reinterpret_cast<T*>(std::size_t{1} << 40);
}
[[nodiscard]] workspace scratch(offset_t bytes) { return {there<std::byte>(), bytes}; }

constexpr index_t heads = 8, group = 4, length = 5000, dims = 128, window = 32;
constexpr cache_shape shape{.layers = 4, .seqs = 2, .kv_heads = heads};
const gpu on{.stream = there<CUstream_st>(), .longest = length};

template <class E>
[[nodiscard]] auto strided_cache() {
  const entries all{there<E>(), hnd(shape.seqs, heads, length, dims), dims};
  return cache{shape, there<index_t>(), all, all};
}
[[nodiscard]] auto pages() {
  const entries all{there<bfloat16>(), paged_per_row(there<index_t>(), 400, 16, dims), dims};
  return cache{shape, there<index_t>(), all, all};
}
template <class E>
[[nodiscard]] auto asked(index_t rows) {
  return query_view{entries{there<E>(), hnd(shape.seqs, heads * group, rows, dims), dims}, heads * group, rows};
}
const selection kept{{there<index_t>(), offset_t{length} * heads * 8}, {there<offset_t>(), shape.rows() + 1}};
const span<index_t> lengths{there<index_t>(), shape.rows()};

[[nodiscard]] std::string said(const status& s) {
  return s.ok() ? std::string() : std::string(s.argument) + ": " + s.sentence;
}

template <class Policy>
[[nodiscard]] std::string select_by(const Policy& policy, const index_t* pools = nullptr) {
  const row_scores in{shape, {there<float>(), there<offset_t>(), static_cast<index_t>(shape.rows())}, {pools, 3}};
  return said(select(on, policy, in, kept, scratch(workspace_bytes(on, policy, in))));
}
template <class Policy, class Inputs>
[[nodiscard]] std::string evict_by(const Policy& policy, const Inputs& in) {
  return said(evict(on, policy, in, kept, scratch(workspace_bytes(on, policy, in))));
}

/// A decode state of that policy, and `call(states, inputs, workspace)`.
template <class Policy, class Call>
[[nodiscard]] std::string decode_by(const Policy& policy, const Call& call) {
  constexpr cache_shape one{.layers = 4, .seqs = 1, .kv_heads = heads};
  const entries all{there<bfloat16>(), hnd(1, heads, length, dims), dims};
  const inputs in{cache{one, there<index_t>(), all, all},
                  query_view{entries{there<bfloat16>(), hnd(1, heads * group, 1, dims), dims}, heads * group, 1}};
  const sequence_extent extent{.shape = one, .capacity = length, .query_heads = heads * group, .head_dim = dims};
  const device_states states{policy, extent, scratch(state_bytes(policy, extent))};
  const span<index_t> rows{there<index_t>(), one.rows()};
  return said(call(states, in, rows, scratch(workspace_bytes(on, policy, states, in))));
}
template <class Policy>
[[nodiscard]] std::string step_by(const Policy& policy) {
  return decode_by(policy, [&](const auto& states, const auto& in, const auto& rows, const workspace& memory) {
    return step(on, policy, states, in, rows, memory, {.every = 8});
  });
}
template <class Policy>
[[nodiscard]] std::string make_room_by(const Policy& policy) {
  return decode_by(policy, [&](const auto& states, const auto& in, const auto& rows, const workspace& memory) {
    return evict_in_place(on, policy, states, in, rows, memory, {.every = 8});
  });
}

constexpr amount size = slots(1024);

}  // namespace

std::vector<launches::call> launches::all_calls() {
  return {
      {"select: rows alone", [] { return select_by(snapkv<>{.budget = size}); }, 1},
      {"select: joint budgets", [] { return select_by(adakv{snapkv<>{.budget = size}}); }, 0},
      {"select: pools of one's own", [] { return select_by(adakv{snapkv<>{.budget = size}}, there<index_t>()); }, 2},
      {"evict: window, bf16",
       [] {
         return evict_by(snapkv<>{.budget = size}, inputs{strided_cache<bfloat16>(), asked<bfloat16>(window)});
       },
       0},
      {"evict: all rows, fp32",
       [] {
         return evict_by(h2o{.budget = size}, inputs{strided_cache<float>(), asked<float>(length)});
       },
       0},
      {"evict: joint, step gain, fp16",
       [] {
         return evict_by(adakv{ahakv<>{.budget = size}}, inputs{strided_cache<half>(), asked<half>(window)});
       },
       0},
      {"evict: mean of a layer",
       [] {
         return evict_by(tova{.budget = size}, inputs{strided_cache<bfloat16>(), asked<bfloat16>(1)});
       },
       0},
      {"evict: keys alone", [] { return evict_by(knorm{.budget = size}, inputs{pages()}); }, 0},
      {"gather",
       [] {
         return said(gather(on, strided_cache<bfloat16>(), kept, pages(),
                            side(there<index_t>(), hnd(shape.seqs, heads, length, 1))));
       },
       1},
      {"compact_in_place", [] { return said(compact_in_place(on, pages(), kept)); }, 1},
      {"swap_fill",
       [] {
         return said(swap_fill(on, pages(), {there<index_t>(), hnd(shape.seqs, heads, length, 1)}, kept,
                               scratch(swap_fill_workspace_bytes(on, kept))));
       },
       2},
      {"retained_lengths", [] { return said(retained_lengths(on, kept, there<index_t>())); }, 1},
      {"append", [] { return said(append(on, strided_cache<bfloat16>(), strided_cache<bfloat16>(), lengths)); }, 1},
      {"observe: running sums",
       [] {
         return decode_by(h2o{.budget = size}, [](const auto& states, const auto& in, const auto&, const auto& memory) {
           return observe(on, h2o{.budget = size}, states, in, memory);
         });
       },
       1},
      {"evict_in_place: window", [] { return make_room_by(snapkv<>{.budget = size}); }, 1},
      {"evict_in_place: mean of a layer", [] { return make_room_by(tova{.budget = size}); }, 1},
      {"step: running sums", [] { return step_by(h2o{.budget = size}); }, 1},
      {"step: joint, step gain", [] { return step_by(adakv{ahakv<>{.budget = size}}); }, 1},
  };
}
