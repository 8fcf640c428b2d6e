// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>
#include <cstdint>
#include <kvevict/core/types.hpp>
#include <kvevict/view/inputs.hpp>

namespace kvevict {

/// An all-reduce of the caller: adds `values` element by element over all ranks, leaves the sums on every rank, and
/// says whether that worked. kvevict/mpi.hpp has one.
template <class S>
concept rank_sum = requires(const S& sum, const span<std::int64_t>& values) {
  { sum(values) } -> std::convertible_to<bool>;
};

/// One part of a model whose kv_heads are spread over several ranks (tensor parallelism). The cache of the call holds
/// kv_heads first_kv_head .. first_kv_head + cache.shape().kv_heads of `kv_heads`, at least one; layers and sequences
/// are the same everywhere. `sum` is a `rank_sum`, or, for calls on the device, a `stream_sum` (cuda/ranks.cuh).
///
/// With a joint budget (Ada-KV) the heads of all ranks share, and every rank keeps exactly what one process would:
///
///     rounds     6, whatever the input: one of a single number that says whether any rank refuses the call, four of a
///                histogram of 256 bins and 3 numbers per (layer, sequence), one of 5 numbers per head
///     exchanged  counts; no score leaves its rank
///
/// All ranks make the same calls with the same policy. Where one refuses, all return an error. Without a joint budget
/// nothing is exchanged but the first number. A scorer that crosses the kv_heads of a layer (TOVA) cannot run this way.
template <class Sum>
struct rank_view {
  static constexpr input_kind kind = input_kind::ranks;

  index_t first_kv_head = 0;
  index_t kv_heads = 0;  ///< of all ranks
  Sum sum{};
};
template <class Sum>
rank_view(index_t, index_t, Sum) -> rank_view<Sum>;

}  // namespace kvevict
