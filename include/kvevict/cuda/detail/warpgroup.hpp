// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/detail/fragments.hpp>

/// Matrices that a warpgroup, four warps, multiplies while its threads do something else: 64 x 16 times 16 x 32 with
/// 16-bit elements (wgmma.mma_async in the PTX manual). The rows come from registers, and those of warp w are the rows
/// 16 w .. 16 w + 15, as mma_rows and mma_sums of detail/fragments.hpp. The columns come from shared memory.
///
///     wgmma_fence_stores()            what the threads have stored in shared memory is there for wgmma after a barrier
///     wgmma_begin()                   what the threads have written to registers is there
///     wgmma<Element>(s, a, columns, add)  starts s = a * columns, or s += a * columns; s is an array of four sums
///     wgmma_end()                     those since `begin` are a group
///     wgmma_wait<Later>(s ...)        all groups but the `Later` newest are done: s may be read, a and the columns
///                                     overwritten; until then nobody touches them
///
/// Columns lie in shared memory as the manual says for K-major operands with a swizzle of 128 bytes: 64 k of a column
/// take 128 bytes, then come those of the next column; of its eight pieces, 16 bytes each, piece p of column n is
/// number p ^ n % 8. So neither those who write a column's pieces nor wgmma, which reads one piece of eight columns,
/// meet in a bank, and two pieces that share 32 bytes of a query share 32 bytes here: copies of 16 bytes that scatter
/// what the device reads at once are made one by one.
namespace kvevict::detail {

/// Pieces of a column in 64 k, and where one of them lies, in pieces from the first of the first column.
inline constexpr int pieces_of_column = 8;
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr index_t wgmma_place(index_t column, int piece) {
  return column * pieces_of_column + (piece ^ column % 8);
}

/// The descriptor of columns (matrix-descriptor in the PTX manual) whose first 16 of 64 k start at `address`, a
/// multiple of 1024: eight columns take 1024 bytes (the stride dimension), and the bits 62 and 63 name the swizzle. The
/// leading dimension is not used with it.
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr std::uint64_t wgmma_columns(std::uint32_t address) {
  const auto field = [](std::uint32_t bytes) { return std::uint64_t{(bytes & 0x3ffff) >> 4}; };
  return field(address) | field(16) << 16 | field(1024) << 32 | std::uint64_t{1} << 62;
}

/// The descriptor of what lies that many pieces further: eight per column, two per 16 k.
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr std::uint64_t further(std::uint64_t columns, std::uint32_t pieces) {
  return columns + pieces;
}

}  // namespace kvevict::detail
