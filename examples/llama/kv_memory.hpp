// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cpu.hpp>
#include <vector>

/// The KV cache of one sequence, fp32. Every row (layer, kv_head) owns a piece of address space for `capacity` slots,
/// of which only those pages exist that hold slots: a row grows in place, rows differ in length, and what an eviction
/// empties goes back to the system.
class kv_memory {
 public:
  kv_memory(int layers, int kv_heads, int dims, int capacity);
  ~kv_memory();
  kv_memory(const kv_memory&) = delete;
  kv_memory& operator=(const kv_memory&) = delete;

  [[nodiscard]] int capacity() const { return capacity_; }
  [[nodiscard]] int kv_heads() const { return kv_heads_; }
  [[nodiscard]] int dims() const { return dims_; }
  /// Occupied slots of the rows of a layer, [kv_heads].
  [[nodiscard]] int* lengths(int layer) { return lengths_.data() + layer * kv_heads_; }
  [[nodiscard]] const int* lengths(int layer) const { return lengths_.data() + layer * kv_heads_; }
  /// [capacity][dims] of one row.
  [[nodiscard]] float* keys(int layer, int kv_head) const { return keys_ + place(layer, kv_head); }
  [[nodiscard]] float* values(int layer, int kv_head) const { return values_ + place(layer, kv_head); }

  /// A layer, or `count` of them, as the library sees it; the model is `depth` layers deep.
  [[nodiscard]] auto view(int layer, int depth, int count = 1) {
    using namespace kvevict;
    const strided order{.layer = kv_heads_ * row_floats_, .head = row_floats_, .slot = dims_};
    return cache{cache_shape{count, 1, kv_heads_, layer, depth}, lengths(layer), entries{keys(layer, 0), order, dims_},
                 entries{values(layer, 0), order, dims_}};
  }
  /// Gives back the pages of a layer behind its rows' last slots.
  void release(int layer);
  /// Copies the slots of another cache of the same extents; what this one held is given back.
  void copy(const kv_memory& from);

  /// Slots of all rows.
  [[nodiscard]] std::int64_t slots() const;
  /// Bytes of memory that the cache occupies at this moment: asked of the system, page by page.
  [[nodiscard]] std::int64_t resident_bytes() const;

 private:
  [[nodiscard]] std::int64_t place(int layer, int kv_head) const {
    return (static_cast<std::int64_t>(layer) * kv_heads_ + kv_head) * row_floats_;
  }
  [[nodiscard]] std::int64_t all_bytes() const { return place(layers_, 0) * 4; }

  int layers_, kv_heads_, dims_, capacity_;
  std::int64_t row_floats_;
  float *keys_, *values_;
  std::vector<int> lengths_;
};
