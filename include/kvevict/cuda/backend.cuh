// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime_api.h>

#include <kvevict/core/types.hpp>

namespace kvevict {

/// The CUDA backend: pass it first to an entry point to run there, on this stream and its device. (Not named `cuda`,
/// which is a namespace of the toolkit's.)
///
/// @code{.cu}
/// status s = select(gpu{stream}, policy, row_scores{shape, scores}, kept, scratch);
/// @endcode
///
/// What views, scores, selections, offsets, lengths and the workspace point to is memory of that device, which need not
/// be the current one. A call puts kernels into the stream and returns: it reads nothing of the device's, so it neither
/// waits nor allocates, and it may be captured into a graph. (CUDA loads a kernel when it is first used, and may refuse
/// to in a capture that is not relaxed: one call before loads it.) Its status is about what the host knows (extents,
/// options, sizes, null pointers). What only the device knows cannot be refused: a row whose budget is impossible is
/// kept whole, and rows for whose slots a selection has no room are not written. A launch that CUDA refuses is a
/// `device_error`, and stays in cudaGetLastError.
///
/// Selections are exact however the code is compiled. Scores are not with nvcc's --use_fast_math, which rounds
/// quotients and roots otherwise and takes subnormal numbers for 0: what is promised bit for bit is then only near.
struct gpu {
  cudaStream_t stream = nullptr;
  /// Slots of the longest row of a call, or anything above: sizes workspace and grids, for lengths lie on the device.
  /// Longer rows are seen up to here. Not read by calls that work on given scores or selections.
  index_t longest = 0;
};

}  // namespace kvevict
