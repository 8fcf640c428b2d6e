// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cstring>
#include <kvevict/cuda/compact.cuh>
#include <numeric>
#include <random>

#include "model_cache.cuh"
#include "selecting.hpp"

namespace measured {

using namespace kvevict;

namespace {

/// `kept` of `keys` slots of every row, by chance, ascending.
std::vector<index_t> random_slots(index_t rows, index_t keys) {
  std::mt19937 chance(7);
  std::vector<index_t> all(static_cast<std::size_t>(keys)), out;
  std::iota(all.begin(), all.end(), 0);
  for (index_t r = 0; r < rows; ++r) std::sample(all.begin(), all.end(), std::back_inserter(out), kept, chance);
  return out;
}
std::vector<index_t> token_orders(index_t rows, index_t keys) {
  std::vector<index_t> out(static_cast<std::size_t>(rows) * static_cast<std::size_t>(keys));
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<index_t>(i % static_cast<std::size_t>(keys));
  return out;
}

/// Keys and values of a shape, in one piece of memory each.
struct room {
  cache_shape shape;
  index_t slots_per_row;
  device::array<bfloat16> keys, values;
  room(index_t layers, index_t slots, std::uint64_t seed)
      : shape{.layers = layers, .kv_heads = kv_heads},
        slots_per_row(slots),
        keys(static_cast<std::size_t>(shape.rows()) * static_cast<std::size_t>(slots) * dims),
        values(keys.size()) {
    make_normal(keys, 2 * seed);
    make_normal(values, 2 * seed + 1);
  }
  [[nodiscard]] auto cache() const {
    const strided layout = hnd(1, kv_heads, slots_per_row, dims);
    return kvevict::cache{shape, slots_per_row, entries{keys.data(), layout, dims},
                          entries{values.data(), layout, dims}};
  }
  /// Key and value of every slot of a row, one after the other.
  [[nodiscard]] std::vector<std::vector<std::uint16_t>> row(offset_t r) const {
    std::vector<std::vector<std::uint16_t>> out;
    for (const device::array<bfloat16>* part : {&keys, &values}) {
      const std::size_t count = static_cast<std::size_t>(slots_per_row) * dims;
      std::vector<std::uint16_t> bits(count);
      device::require(cudaMemcpy(bits.data(), part->data() + r * static_cast<offset_t>(count), count * sizeof(bfloat16),
                                 cudaMemcpyDeviceToHost),
                      "copy of a row");
      out.push_back(bits);
    }
    return out;
  }
};

/// Whether slot place(k) of a row holds what slot sources[k] held before.
template <class Place>
bool holds(const std::vector<std::vector<std::uint16_t>>& before, const std::vector<std::vector<std::uint16_t>>& after,
           const index_t* sources, const Place& place) {
  for (std::size_t part = 0; part < before.size(); ++part)
    for (index_t k = 0; k < kept; ++k)
      if (!std::equal(&before[part][static_cast<std::size_t>(sources[k]) * dims],
                      &before[part][static_cast<std::size_t>(sources[k]) * dims] + dims,
                      &after[part][static_cast<std::size_t>(place(k)) * dims]))
        return false;
  return true;
}

}  // namespace

std::optional<timing> measure_compaction(compaction_kind kind, index_t layers, index_t keys) {
  const index_t rows = layers * kv_heads;
  const std::vector<index_t> chosen = random_slots(rows, keys);
  const device::array<index_t> slots(chosen);
  const device::array<offset_t> offsets(score_room::steps(rows, kept));
  const selection stay{{slots.data(), static_cast<offset_t>(slots.size())}, {offsets.data(), rows + 1}};
  const double moved = 2.0 * rows * kept * dims * sizeof(bfloat16);
  // As many inputs as fill more than the caches with what moves; fewer where the whole caches would not fit.
  const std::size_t turns = std::max<std::size_t>(
      1, std::min(turns_of(moved), static_cast<std::size_t>(free_bytes() / 2 / compaction_bytes(layers, keys))));
  std::vector<std::unique_ptr<room>> from, to;
  std::vector<std::unique_ptr<device::array<index_t>>> orders;
  for (std::size_t i = 0; i < turns; ++i) {
    from.push_back(std::make_unique<room>(layers, keys, i + 1));
    to.push_back(std::make_unique<room>(layers, kind == compaction_kind::gather ? kept : 1, 100 + i));
    orders.push_back(std::make_unique<device::array<index_t>>(
        kind == compaction_kind::swap_fill ? token_orders(rows, keys) : std::vector<index_t>{}));
  }
  const scratch memory(kind == compaction_kind::swap_fill ? swap_fill_workspace_bytes(gpu{}, stay) : 0);
  const auto compact = [&](std::size_t i, cudaStream_t stream) {
    const gpu on{stream};
    if (kind == compaction_kind::gather)
      require(gather(on, from[i]->cache(), stay, to[i]->cache()), "gather");
    else if (kind == compaction_kind::in_place)
      require(compact_in_place(on, from[i]->cache(), stay), "compact_in_place");
    else
      require(swap_fill(on, from[i]->cache(), token_order{orders[i]->data(), hnd(1, kv_heads, keys, 1)}, stay,
                        memory.get()),
              "swap_fill");
  };
  const offset_t last = rows - 1;
  device::require(cudaDeviceSynchronize(), "inputs");
  const auto first_before = from[0]->row(0), last_before = from[0]->row(last);
  compact(0, nullptr);
  device::require(cudaDeviceSynchronize(), "compaction");
  const room& target = kind == compaction_kind::gather ? *to[0] : *from[0];
  const std::vector<index_t> order = orders[0]->host();
  const auto right = [&](offset_t r, const auto& before) {
    const index_t* const places = order.data() + (order.empty() ? 0 : r * keys);
    return holds(before, target.row(r), chosen.data() + r * kept,
                 [&](index_t k) { return kind == compaction_kind::swap_fill ? places[k] : k; });
  };
  if (!right(0, first_before) || !right(last, last_before)) return {};
  // In place, every run moves the same slots again; which numbers they hold by then makes no difference. A swap-fill
  // needs its first order back, so it is copied in the graph as one node more, and timed alone below.
  std::unique_ptr<device::array<index_t>> fresh;
  if (kind == compaction_kind::swap_fill) fresh = std::make_unique<device::array<index_t>>(token_orders(rows, keys));
  const auto restore = [&](std::size_t i, cudaStream_t stream) {
    device::require(cudaMemcpyAsync(orders[i]->data(), fresh->data(), fresh->size() * sizeof(index_t),
                                    cudaMemcpyDeviceToDevice, stream),
                    "restore");
  };
  timing time = replay(turns, [&](std::size_t i, cudaStream_t stream) {
    if (fresh) restore(i, stream);
    compact(i, stream);
  });
  if (fresh) {
    time.median_seconds -= replay(turns, restore).median_seconds;
    --time.launches;
  }
  time.workspace_bytes = memory.bytes();
  return time;
}

timing measure_plain_copy(index_t layers) {
  const std::size_t bytes = static_cast<std::size_t>(layers) * kv_heads * kept * dims * sizeof(bfloat16) * 2;
  const std::size_t turns = turns_of(static_cast<double>(bytes));
  std::vector<std::unique_ptr<room>> from, to;
  for (std::size_t i = 0; i < turns; ++i) {
    from.push_back(std::make_unique<room>(layers, 2 * kept, i));
    to.push_back(std::make_unique<room>(layers, 2 * kept, 100 + i));
  }
  return replay(turns, [&](std::size_t i, cudaStream_t stream) {
    device::require(cudaMemcpyAsync(to[i]->keys.data(), from[i]->keys.data(), bytes, cudaMemcpyDeviceToDevice, stream),
                    "copy");
  });
}

}  // namespace measured
