// SPDX-License-Identifier: MIT
#pragma once

#include <nccl.h>

#include <kvevict/cuda/ranks.cuh>

namespace kvevict {

/// The all-reduce of `rank_view` over NCCL, on the stream of the call; the communicator's device is the stream's. May
/// be captured into a graph. A communicator that does not block must have ended what it did before, and has its calls
/// refused where NCCL answers that they are in progress. The program links NCCL.
///     inputs in{view, rows, rank_view{first_kv_head, kv_heads, nccl_sum{communicator}}};
struct nccl_sum {
  ncclComm_t communicator = nullptr;

  [[nodiscard]] bool operator()(cudaStream_t stream, const span<std::int64_t>& values) const {
    return ncclAllReduce(values.data, values.data, static_cast<std::size_t>(values.size()), ncclInt64, ncclSum,
                         communicator, stream) == ncclSuccess;
  }
};

}  // namespace kvevict
