// SPDX-License-Identifier: MIT
#include <kvevict/cuda.cuh>

#include "../support/device.hpp"
#include "on_device_moves.hpp"

using namespace kvevict;

namespace on_device {
namespace {

/// The rows on the device, and back.
template <class Element>
struct held_there {
  device::array<index_t> table, lengths, held;
  device::array<Element> keys, values;
  device::array<double> frequencies;
  paged layout;
  rope embedding;

  explicit held_there(const paged_rows<Element>& from)
      : table(from.table),
        lengths(from.lengths),
        held(from.held),
        keys(from.keys),
        values(from.values),
        frequencies(from.frequencies),
        layout(paged_per_row(table.data(), from.max_blocks, from.block_size, from.dims)),
        embedding{frequencies.data(), 2 * static_cast<index_t>(from.frequencies.size()), from.pairs} {}
  [[nodiscard]] auto view(const paged_rows<Element>& of) const {
    return cache{of.shape, row_lengths(lengths.data()), entries{keys.data(), layout, of.dims},
                 entries{values.data(), layout, of.dims}};
  }
  void take(paged_rows<Element>& to) const {
    device::require(cudaDeviceSynchronize(), "run");
    to.lengths = lengths.host();
    to.held = held.host();
    to.keys = keys.host();
    to.values = values.host();
  }
};

}  // namespace

template <class Element>
bool compact_and_free(paged_rows<Element>& rows) {
  const held_there<Element> there(rows);
  const device::array<index_t> slots(rows.slots), freed(rows.table.size());
  const device::array<offset_t> offsets(rows.offsets), count(1);
  const selection kept{{slots.data(), static_cast<offset_t>(slots.size())},
                       {offsets.data(), static_cast<offset_t>(offsets.size())}};
  status s = compact_in_place(gpu{}, there.view(rows), kept, turned_keys{there.embedding});
  if (s.ok()) s = retained_lengths(gpu{}, kept, there.lengths.data());
  if (s.ok())
    s = free_blocks(gpu{}, there.layout, rows.shape, there.lengths.data(), 0, {there.held.data()},
                    {freed.data(), static_cast<offset_t>(freed.size())}, count.data());
  if (!s.ok()) return false;
  there.take(rows);
  rows.freed = freed.host();
  rows.freed.resize(static_cast<std::size_t>(count.host()[0]));
  return true;
}

template <class Element>
bool rotate(paged_rows<Element>& rows, const std::vector<index_t>& from, const std::vector<index_t>& to) {
  const held_there<Element> there(rows);
  const device::array<index_t> before(from), after(to);
  const strided order = hnd(rows.shape.seqs, rows.shape.kv_heads, rows.max_blocks * rows.block_size, 1);
  const status s = rotate_keys(gpu{}, there.view(rows), there.embedding, position_view{before.data(), order},
                               position_view{after.data(), order});
  if (!s.ok()) return false;
  there.take(rows);
  return true;
}

template bool compact_and_free(paged_rows<float>&);
template bool compact_and_free(paged_rows<bfloat16>&);
template bool rotate(paged_rows<float>&, const std::vector<index_t>&, const std::vector<index_t>&);
template bool rotate(paged_rows<bfloat16>&, const std::vector<index_t>&, const std::vector<index_t>&);

status free_blocks_of(const paged& layout, const cache_shape& shape, index_t slack, index_t* counts,
                      const span<index_t>& freed, offset_t* freed_count) {
  return free_blocks(gpu{}, layout, shape, index_t{1}, slack, {counts}, freed, freed_count);
}
status rotate_one_row(float* keys, const rope& embedding, const index_t* from, const index_t* to) {
  return rotate_keys(gpu{}, key_cache{cache_shape{}, index_t{1}, entries{keys, hnd(1, 1, 1, 8), 8}}, embedding,
                     position_view{from, {}}, position_view{to, {}});
}

}  // namespace on_device
