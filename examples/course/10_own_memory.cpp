// SPDX-License-Identifier: MIT
// 10. Your own engine's memory in 30 lines. The library never asks for its own format: where an element lies is one
// function. This engine keeps keys as vLLM's first kernels do, eight dims of one slot side by side and then the next
// slot, and values transposed, a dim's slots side by side; both in fp16. Nothing is copied to evict from it.
// Equation: none; a layout is offset(row, slot, dim). Header: kvevict/view/layout.hpp. Test: tests/view/view.cpp.
#include <algorithm>
#include <cstdio>

#include "course.hpp"

using namespace kvevict;

// ---- the engine's memory ----
struct packed_keys {  // [kv_heads][dims / 8][slots][8]
  index_t dims, room;
  [[nodiscard]] offset_t offset(const row_id& row, index_t slot, index_t dim) const {
    return ((offset_t{row.kv_head} * (dims / 8) + dim / 8) * room + slot) * 8 + dim % 8;
  }
};
struct slots_last {  // [kv_heads][dims][slots]
  index_t dims, room;
  [[nodiscard]] offset_t offset(const row_id& row, index_t slot, index_t dim) const {
    return (offset_t{row.kv_head} * dims + dim) * room + slot;
  }
  [[nodiscard]] offset_t dim_stride() const { return room; }
};
static_assert(cache_layout<packed_keys> && strided_dims<slots_last>);

struct engine {
  index_t heads, dims, room;
  std::vector<half> keys = std::vector<half>(std::size_t(heads * dims * room)), values = keys;
  std::vector<index_t> lengths = std::vector<index_t>(std::size_t(heads), room);

  [[nodiscard]] auto view() {
    return cache{cache_shape{1, 1, heads}, lengths.data(), entries{keys.data(), packed_keys{dims, room}, dims},
                 entries{values.data(), slots_last{dims, room}, dims}};
  }
};
// ---- end of the engine's memory ----

int main() {
  layer_capture c = capture_file(KVEVICT_CAPTURE).load(19);
  engine own{c.kv_heads, c.dim, c.length};
  const auto plain = cache_of(c, c.length);
  for (index_t h = 0; h < c.kv_heads; ++h)
    for (index_t slot = 0; slot < c.length; ++slot)
      for (index_t d = 0; d < c.dim; ++d) {
        *own.view().keys().at({0, 0, h, h}, slot, d) = to_half(plain.keys()({0, 0, h, h}, slot, d));
        *own.view().values().at({0, 0, h, h}, slot, d) = to_half(plain.values()({0, 0, h, h}, slot, d));
      }
  const row_id row{0, 0, 1, 1};
  std::printf("element of kv_head 1, slot 5, dim 9:  keys at %d, values at %d, of %d in all\n",
              int(own.view().keys().layout.offset(row, 5, 9)), int(own.view().values().layout.offset(row, 5, 9)),
              int(own.keys.size()));

  const adakv policy{snapkv<>{.budget = percent(25)}};
  const query_view queries = queries_of(c, c.rows - 32, 32);
  evicted kept = keep(policy, inputs{own.view(), queries});
  const evicted expected = keep(policy, inputs{plain, queries});
  require(compact_in_place(cpu{}, own.view(), kept.view()));
  retained_lengths(kept.view(), own.lengths.data());

  index_t wrong = 0;
  for (index_t h = 0; h < c.kv_heads; ++h) {
    const row_id at{0, 0, h, h};
    for (index_t k = 0; k < own.lengths[std::size_t(h)]; ++k)
      for (index_t d = 0; d < c.dim; ++d)
        wrong += own.view().keys()(at, k, d) != plain.keys()(at, kept.view()[h][k], d) ||
                 own.view().values()(at, k, d) != plain.values()(at, kept.view()[h][k], d);
    std::printf("kv_head %d holds %4d of %d slots\n", h, own.lengths[std::size_t(h)], c.length);
  }
  std::printf("the same slots as in plain fp32 memory: %s\n", kept.slots == expected.slots ? "yes" : "no");
  std::printf("elements that are wrong after the compaction: %d\n", wrong);
}
