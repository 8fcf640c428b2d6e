// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/detail/fragments.hpp>

/// Matrices that a warpgroup, four warps, multiplies while its threads do something else: 64 x 16 times 16 x 32 with
/// 16-bit elements (wgmma.mma_async in the PTX manual). The rows come from registers, and those of warp w are the rows
/// 16 w .. 16 w + 15, as mma_rows and mma_sums of detail/fragments.hpp. The columns come from shared memory.
///
///     wgmma_fence_stores()              what the threads have stored in shared memory is there for wgmma after a
///     barrier wgmma_begin()                     what the threads have written to registers is there wgmma<Element>(s,
///     a, columns, add)    starts s = a * columns, or s += a * columns; s is an array of four sums wgmma_end() those
///     since `begin` are a group wgmma_wait<Later>(s ...)          all groups but the `Later` newest are done: s may be
///     read, a and the columns
///                                       overwritten; until then nobody touches them
///
/// Columns in shared memory consist of pieces of eight adjacent k of one column, 16 bytes; pieces of eight columns lie
/// one after another, 128 bytes, which is what the manual calls a core matrix without swizzle, K-major.
namespace kvevict::detail {

/// The descriptor of columns (matrix-descriptor in the PTX manual): where they start in shared memory, how far it is to
/// the next eight k (the leading dimension), and to the next eight columns (the stride dimension). All in bytes,
/// multiples of 16.
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr std::uint64_t wgmma_columns(std::uint32_t address, std::uint32_t next_k,
                                                                        std::uint32_t next_columns) {
  const auto field = [](std::uint32_t bytes) { return std::uint64_t{(bytes & 0x3ffff) >> 4}; };
  return field(address) | field(next_k) << 16 | field(next_columns) << 32;  // bits 62 and 63: 0, no swizzle
}

/// The descriptor of what lies 16 * `pieces` bytes further.
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr std::uint64_t further(std::uint64_t columns, std::uint32_t pieces) {
  return columns + pieces;
}

}  // namespace kvevict::detail
