// SPDX-License-Identifier: MIT
#include <algorithm>
#include <kvevict/cuda/compact.cuh>
#include <kvevict/cuda/evict.cuh>
#include <memory>

#include "model_cache.cuh"
#include "selecting.hpp"

namespace measured {

using namespace kvevict;

namespace {

using kept_cache = model_cache<bfloat16>;

/// Everything that one compression writes. The target is flat: where rows begin in it is what the selection says.
struct written {
  index_t rows;
  device::array<index_t> slots, lengths;
  device::array<offset_t> offsets;
  device::array<bfloat16> keys, values;

  explicit written(index_t row_count)
      : rows(row_count),
        slots(static_cast<std::size_t>(row_count) * kept),
        lengths(static_cast<std::size_t>(row_count)),
        offsets(static_cast<std::size_t>(row_count) + 1),
        keys(slots.size() * dims),
        values(slots.size() * dims) {}
  [[nodiscard]] selection selected() const {
    return {{slots.data(), static_cast<offset_t>(slots.size())}, {offsets.data(), rows + 1}};
  }
  [[nodiscard]] auto target(const cache_shape& shape) const {
    const flat layout{offsets.data(), dims};
    return cache{shape, static_cast<const index_t*>(lengths.data()), entries{keys.data(), layout, dims},
                 entries{values.data(), layout, dims}};
  }
};

/// Whether row r of the target holds the entries of the source that were kept.
bool moved(const kept_cache& from, const written& to, const selection_run& kept_slots, offset_t r) {
  const auto row_of = [](const device::array<bfloat16>& memory, offset_t first, offset_t slots) {
    std::vector<bfloat16> entries(static_cast<std::size_t>(slots) * dims);
    device::require(cudaMemcpy(entries.data(), memory.data() + first * dims, entries.size() * sizeof(bfloat16),
                               cudaMemcpyDeviceToHost),
                    "copy of a row");
    return entries;
  };
  const offset_t begin = kept_slots.offsets[static_cast<std::size_t>(r)];
  const offset_t count = kept_slots.offsets[static_cast<std::size_t>(r) + 1] - begin;
  const auto same = [&](const device::array<bfloat16>& source, const device::array<bfloat16>& target) {
    const auto before = row_of(source, r * from.keys_per_row, from.keys_per_row), after = row_of(target, begin, count);
    for (offset_t k = 0; k < count; ++k) {
      const offset_t slot = kept_slots.slots[static_cast<std::size_t>(begin + k)];
      for (offset_t d = 0; d < dims; ++d)
        if (before[static_cast<std::size_t>(slot * dims + d)].bits !=
            after[static_cast<std::size_t>(k * dims + d)].bits)
          return false;
    }
    return true;
  };
  return same(from.keys, to.keys) && same(from.values, to.values);
}

/// `inputs_of(cache)` is what the policy reads.
template <class Policy, class InputsOf>
whole_run run(const Policy& policy, const parts& has, index_t layers, index_t keys, const InputsOf& inputs_of) {
  const double bytes_of_one = 4.0 * layers * kv_heads * keys * dims;
  std::vector<std::unique_ptr<kept_cache>> caches;
  for (std::size_t i = 0; i < turns_of(bytes_of_one); ++i)
    caches.push_back(std::make_unique<kept_cache>(layers, keys, window, has, i + 1));
  const cache_shape shape = caches[0]->shape;
  const auto rows = static_cast<index_t>(shape.rows());
  const written out(rows);
  const scratch memory(workspace_bytes(gpu{.longest = keys}, policy, inputs_of(*caches[0])));
  const auto compress = [&](std::size_t i, cudaStream_t stream) {
    const gpu on{stream, keys};
    require(evict(on, policy, inputs_of(*caches[i]), out.selected(), memory.get()), "evict");
    require(gather(on, caches[i]->cache(), out.selected(), out.target(shape)), "gather");
    require(retained_lengths(on, out.selected(), out.lengths.data()), "retained_lengths");
  };
  const score_room room(rows, keys);
  device::require(cudaDeviceSynchronize(), "inputs");
  compress(0, nullptr);
  whole_run result;
  result.kept.offsets = out.offsets.host();
  result.kept.slots = out.slots.host();
  require(score_rows(gpu{nullptr, keys}, policy, inputs_of(*caches[0]), room.view(), memory.get()), "score_rows");
  result.kept.scores = room.scores.host();
  const std::vector<index_t> lengths = out.lengths.host();
  for (std::size_t r = 0; r < lengths.size(); ++r)
    if (lengths[r] != result.kept.offsets[r + 1] - result.kept.offsets[r]) return result;
  if (!moved(*caches[0], out, result.kept, 0) || !moved(*caches[0], out, result.kept, rows - 1)) return result;
  result.time = replay(caches.size(), compress);
  result.time->workspace_bytes = memory.bytes();
  return result;
}

}  // namespace

whole_run measure_whole(bool cached_norms, index_t layers, index_t keys) {
  const adakv policy{ahakv<score::plain_gain>{.budget = slots(kept), .window = window}};
  if (cached_norms)
    return run(policy, {.values = true, .norms = true, .lse = true}, layers, keys, [](const auto& c) {
      return inputs{c.cache(), c.query_rows_view(), c.lse_view(), c.norm_view()};
    });
  return run(policy, {.values = true, .lse = true}, layers, keys, [](const auto& c) {
    return inputs{c.cache(), c.query_rows_view(), c.lse_view()};
  });
}

}  // namespace measured
