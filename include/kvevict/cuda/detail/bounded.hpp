// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/detail/block.hpp>
#include <kvevict/view/cache.hpp>
#include <kvevict/view/inputs.hpp>

/// Lengths that only the device knows, and workspace that the host has sized.
namespace kvevict::detail {

/// Which heads of a layer a call has: what kernels know of a `rank_view`.
struct rank_place {
  static constexpr input_kind kind = input_kind::ranks;

  index_t first_kv_head = 0;
  index_t kv_heads = 0;  ///< of all ranks
};

/// A cache none of whose rows is empty or longer than the host said: whatever the lengths in the device's memory are,
/// kernels stay inside their workspace.
template <cache_view Cache>
struct bounded_cache : Cache {
  index_t longest = 1;

  KVEVICT_HOST_DEVICE constexpr bounded_cache(const Cache& of, index_t most) : Cache(of), longest(most) {}

  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr index_t length(const row_id& row) const {
    return greatest(1, least(Cache::length(row), longest));
  }
};

/// A part of the inputs as kernels get it: the all-reduce of ranks is a matter of the host.
template <class Part>
[[nodiscard]] constexpr auto for_kernels(const Part& part) {
  if constexpr (Part::kind == input_kind::ranks)
    return rank_place{part.first_kv_head, part.kv_heads};
  else
    return part;
}

/// The same inputs with such a cache.
template <class Inputs>
[[nodiscard]] constexpr auto bounded(const Inputs& in, index_t longest) {
  const bounded_cache rows(in.cache, longest);
  return in.parts.pass_to([&](const auto&... parts) { return inputs{rows, for_kernels(parts)...}; });
}

/// The kernel, of one block: where the scores of every row begin, offsets[rows + 1], and the lengths that budgets refer
/// to, [rows].
template <class Block, class Inputs>
KVEVICT_HOST_DEVICE void lay_out_rows(Block& b, const Inputs& in, offset_t* offsets, index_t* budget_lengths) {
  const auto sums = b.template shared<offset_t>(warp_threads);
  const cache_shape shape = in.cache.shape();
  auto length = b.template make_local<offset_t>(), before = length;
  offset_t first = 0;
  KVEVICT_ROLLED for (offset_t chunk = 0; chunk < shape.rows(); chunk += b.threads()) {
    b.each([&](int t) {
      length[t] = 0;
      if (chunk + t >= shape.rows()) return;
      const row_id row = shape.row(static_cast<index_t>(chunk + t));
      length[t] = in.cache.length(row);
      budget_lengths[chunk + t] = budget_length(in, row, static_cast<index_t>(length[t]));
    });
    const offset_t more = exclusive_sums<offset_t>(b, length, before, sums);
    b.each([&](int t) {
      if (chunk + t < shape.rows()) offsets[chunk + t] = first + before[t];
    });
    first += more;
  }
  b.each([&](int t) {
    if (t == 0) offsets[shape.rows()] = first;
  });
}
inline constexpr offset_t lay_out_bytes = warp_threads * sizeof(offset_t);

}  // namespace kvevict::detail
