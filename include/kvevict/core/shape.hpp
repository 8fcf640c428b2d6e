// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/core/types.hpp>

namespace kvevict {

/// One row: the KV cache of one kv_head of one sequence in one layer, the unit that is scored and selected.
struct row_id {
  index_t layer = 0;
  index_t seq = 0;
  index_t kv_head = 0;
  index_t index = 0;  ///< (layer * seqs + seq) * kv_heads + kv_head

  friend constexpr bool operator==(const row_id&, const row_id&) = default;
};

/// How many rows a call covers, and which layers of the model they are.
///
///     row index = (layer * seqs + seq) * kv_heads + kv_head
///
/// A call per layer is the same call with `layers = 1` and `first_layer` set. `model_layers` matters only to
/// rules that plan over the depth (PyramidKV); 0 means that the call covers the whole model.
struct cache_shape {
  index_t layers = 1;
  index_t seqs = 1;
  index_t kv_heads = 1;
  index_t first_layer = 0;
  index_t model_layers = 0;

  friend constexpr bool operator==(const cache_shape&, const cache_shape&) = default;

  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr offset_t rows() const {
    return static_cast<offset_t>(layers) * seqs * kv_heads;
  }
  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr index_t depth() const {
    return model_layers > 0 ? model_layers : first_layer + layers;
  }
  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr row_id row(index_t index) const {
    const index_t sequence = index / kv_heads;
    return {sequence / seqs, sequence % seqs, index % kv_heads, index};
  }
  /// Loops over all rows, `for (row_id row; shape.has(row); row = shape.after(row))`: a decode step notices the
  /// divisions of `row`. (nvcc takes the < of `row.index < ...` in a template for a bracket.)
  [[nodiscard]] constexpr bool has(const row_id& row) const { return row.index < rows(); }
  [[nodiscard]] constexpr row_id after(row_id row) const {
    ++row.index;
    if (++row.kv_head < kv_heads) return row;
    row.kv_head = 0;
    if (++row.seq < seqs) return row;
    row.seq = 0;
    ++row.layer;
    return row;
  }
};

}  // namespace kvevict
