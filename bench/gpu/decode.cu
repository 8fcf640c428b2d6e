// SPDX-License-Identifier: MIT
#include <kvevict/cuda/decode.cuh>
#include <kvevict/kvevict.hpp>

#include "decoding.hpp"
#include "random_numbers.cuh"
#include "replay.cuh"

namespace measured {

using namespace kvevict;

namespace {

constexpr index_t capacity = kept + pace;

/// A sequence that decodes, and what the engine hands over at each step: the same token again and again.
struct sequence {
  cache_shape shape;
  device::array<bfloat16> keys, values, prompt, token, queries;
  device::array<float> attention;
  device::array<index_t> lengths;

  explicit sequence(index_t layers)
      : shape{.layers = layers, .kv_heads = kv_heads},
        keys(entries_of(capacity)),
        values(keys.size()),
        prompt(entries_of(kept)),
        token(entries_of(1)),
        queries(entries_of(group)),
        attention(entries_of(group) / dims * capacity),
        lengths(std::vector<index_t>(static_cast<std::size_t>(shape.rows()), 0)) {
    make_normal(prompt, 1);
    make_normal(token, 2);
    make_normal(queries, 3);
    make_normal(attention, 4);
    square_all<<<1024, 256>>>(attention.data(), attention.size());
    device::require(cudaGetLastError(), "fill");
  }
  [[nodiscard]] std::size_t entries_of(index_t per_row) const {
    return static_cast<std::size_t>(shape.rows()) * static_cast<std::size_t>(per_row) * dims;
  }
  [[nodiscard]] auto cache() const {
    const strided room = hnd(1, kv_heads, capacity, dims);
    return kvevict::cache{shape, row_lengths(lengths.data()), entries{keys.data(), room, dims},
                          entries{values.data(), room, dims}};
  }
  [[nodiscard]] auto added(const device::array<bfloat16>& from, index_t count) const {
    const strided order = hnd(1, kv_heads, count, dims);
    return kvevict::cache{shape, count, entries{from.data(), order, dims}, entries{from.data(), order, dims}};
  }
  [[nodiscard]] span<index_t> rows() const { return {lengths.data(), shape.rows()}; }
  [[nodiscard]] auto fed_queries() const {
    return inputs{cache(), query_view{entries{queries.data(), hnd(1, kv_heads * group, 1, dims), dims},
                                      kv_heads * group, index_t{1}}};
  }
  [[nodiscard]] auto fed_attention() const {
    return inputs{cache(), attention_view{entries{attention.data(), hnd(1, kv_heads * group, 1, capacity), capacity},
                                          kv_heads * group, index_t{1}}};
  }
};

/// Whether all rows hold their budget, and remember ascending positions of which the last is the newest.
template <row_feed Feed>
bool at_budget(const sequence& s, const device::array<cache_line>& state) {
  for (const index_t length : s.lengths.host())
    if (length != kept) return false;
  std::vector<cache_line> copy = state.host();
  const decode_state<Feed> seen{workspace_of(copy)};
  if (!seen.check().ok()) return false;
  for (index_t r = 0; r < s.shape.rows(); ++r) {
    const auto positions = seen.positions(s.shape.row(r));
    if (positions.size() != kept || positions[kept - 1] != seen.seen() - 1) return false;
    for (index_t k = 1; k < kept; ++k)
      if (positions[k - 1] >= positions[k]) return false;
  }
  return true;
}

template <row_feed Feed, class Policy, class Inputs>
std::optional<timing> measure(const Policy& policy, const sequence& s, const Inputs& in) {
  const sequence_extent extent{
      .shape = s.shape, .capacity = capacity, .query_heads = kv_heads * group, .head_dim = dims};
  const device::array<cache_line> bytes(cache_lines(state_bytes<Feed>(policy, extent)));
  const workspace memory = workspace_of(bytes);
  const device_states<Feed> states{policy, extent, memory};
  const gpu plain{.longest = capacity};
  const scratch work(workspace_bytes(plain, policy, states, in));
  require(start(plain, policy, extent, decode_state<Feed>{memory}), "start");
  require(append(plain, s.added(s.prompt, kept), s.cache(), s.rows()), "append");
  require(observe(plain, policy, states, in, work.get()), "observe");
  timing time = replay(1, [&](std::size_t, cudaStream_t stream) {
    const gpu on{.stream = stream, .longest = capacity};
    for (index_t t = 0; t < pace; ++t) {
      require(append(on, s.added(s.token, 1), s.cache(), s.rows()), "append");
      require(step(on, policy, states, in, s.rows(), work.get(), {.every = pace}), "step");
    }
  });
  if (!at_budget<Feed>(s, bytes)) return {};
  time.median_seconds /= pace;
  time.launches /= pace;
  time.workspace_bytes = work.bytes();
  return time;
}

}  // namespace

std::optional<timing> measure_decode(decode_kind kind, index_t layers) {
  const sequence s(layers);
  switch (kind) {
    case decode_kind::h2o_attention:
      return measure<row_feed::attention>(h2o{.budget = slots(kept)}, s, s.fed_attention());
    case decode_kind::h2o_queries:
      return measure<row_feed::queries>(h2o{.budget = slots(kept)}, s, s.fed_queries());
    default:
      return measure<row_feed::queries>(snapkv<>{.budget = slots(kept), .window = window}, s, s.fed_queries());
  }
}

}  // namespace measured
