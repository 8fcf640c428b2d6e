// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <cstdint>
#include <kvevict/core/element.hpp>
#include <kvevict/cuda/detail/block.hpp>

/// What the lanes of a warp hold of a product of matrices, 16 x 16 times 16 x 8 with 16-bit elements, two to a word
/// (the layout of mma.m16n8k16 in the PTX manual). Lane l = 4 g + t holds
///
///     mma_rows       x[0], x[2]: row g      x[1], x[3]: row g + 8     k = 2t, 2t + 1; of x[2], x[3]: 8 more
///     mma_columns    x[0], x[1]: column g                             k = 2t, 2t + 1; of x[1]: 8 more
///     mma_sums       x[0], x[1]: row g      x[2], x[3]: row g + 8     columns 2t, 2t + 1
///
/// and of 16 x 8 times 8 x 8 with 32-bit elements (tf32; mma.m16n8k8) the same, one to a word:
///
///     mma_rows       x[0], x[2]: row g      x[1], x[3]: row g + 8     k = t; of x[2], x[3]: t + 4
///     mma_columns    x[0], x[1]: column g                             k = t; of x[1]: t + 4
///
/// The sum does not care which k is which, as long as rows and columns agree.
namespace kvevict::detail {

/// A float of which tensor cores take sign, exponent and 10 bits of the fraction: every half and bfloat16 is one.
struct tf32 {
  std::uint32_t bits;
};
[[nodiscard]] KVEVICT_HOST_DEVICE inline bool fits_tf32(float x) { return (bits_as<std::uint32_t>(x) & 0x1fff) == 0; }

struct mma_rows {
  std::uint32_t x[4];
};
struct mma_columns {
  std::uint32_t x[2];
};
struct mma_sums {
  float x[4];
};

/// 16 bytes that are read at once.
struct alignas(16) words4 {
  std::uint32_t x[4];
};

/// Whether `load_eight` may read there in one access.
[[nodiscard]] KVEVICT_HOST_DEVICE inline bool at_words4(const void* from) {
  return reinterpret_cast<std::uintptr_t>(from) % sizeof(words4) == 0;
}

/// Eight adjacent 16-bit elements, two to a word, in one access where the caller knows that `at_words4`.
template <bool Aligned, class Element>
[[nodiscard]] KVEVICT_HOST_DEVICE inline words4 load_eight(const Element* from) {
  words4 w{};
#if defined(__CUDA_ARCH__)
  if constexpr (Aligned) {
    const uint4 all = __ldg(reinterpret_cast<const uint4*>(from));
    w.x[0] = all.x, w.x[1] = all.y, w.x[2] = all.z, w.x[3] = all.w;
  } else
#endif
  {
    KVEVICT_UNROLLED for (int i = 0; i < 4; ++i) w.x[i] =
        from[2 * i].bits | static_cast<std::uint32_t>(from[2 * i + 1].bits) << 16;
  }
  return w;
}

/// 2^x. On the device in one instruction, 2 units in the last place (ex2.approx in the PTX manual).
[[nodiscard]] KVEVICT_HOST_DEVICE inline float exp2_fast(float x) {
#if defined(__CUDA_ARCH__)
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return std::exp2(x);
#endif
}

}  // namespace kvevict::detail
