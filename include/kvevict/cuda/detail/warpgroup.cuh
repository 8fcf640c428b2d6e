// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/detail/warpgroup.hpp>
#include <type_traits>

/// The instruction of detail/warpgroup.hpp, which is long: every register that it writes is named.
namespace kvevict::detail {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

#define KVEVICT_SUMS(n) "+f"(s[n].value.x[0]), "+f"(s[n].value.x[1]), "+f"(s[n].value.x[2]), "+f"(s[n].value.x[3])
#define KVEVICT_ALL_SUMS KVEVICT_SUMS(0), KVEVICT_SUMS(1), KVEVICT_SUMS(2), KVEVICT_SUMS(3)
#define KVEVICT_WGMMA(type)                                                                              \
  asm volatile(                                                                                          \
      "{\n.reg .pred p;\nsetp.ne.b32 p, %21, 0;\n"                                                       \
      "wgmma.mma_async.sync.aligned.m64n32k16.f32." type "." type                                        \
      " {%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15}, {%16,%17,%18,%19}, %20, p, 1, 1, 0;\n}" \
      : KVEVICT_ALL_SUMS                                                                                 \
      : "r"(a.x[0]), "r"(a.x[1]), "r"(a.x[2]), "r"(a.x[3]), "l"(columns), "r"(static_cast<int>(add)))

template <class Element, class Sums>
__device__ __forceinline__ void start_wgmma(Sums (&s)[4], const mma_rows& a, std::uint64_t columns, bool add) {
  if constexpr (std::is_same_v<Element, bfloat16>)
    KVEVICT_WGMMA("bf16");
  else
    KVEVICT_WGMMA("f16");
}

/// Tells the compiler that only now the sums have their values.
template <class Sums>
__device__ __forceinline__ void written(Sums (&s)[4]) {
  asm volatile("" : KVEVICT_ALL_SUMS::"memory");
}

#undef KVEVICT_WGMMA
#undef KVEVICT_ALL_SUMS
#undef KVEVICT_SUMS

#endif

}  // namespace kvevict::detail
