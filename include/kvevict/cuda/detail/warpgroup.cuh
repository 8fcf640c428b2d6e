// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/detail/warpgroup.hpp>
#include <type_traits>

/// The instructions of detail/warpgroup.hpp, which are long: every register that they write is named.
namespace kvevict::detail {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

#define KVEVICT_SUMS(n) "+f"(s[n].value.x[0]), "+f"(s[n].value.x[1]), "+f"(s[n].value.x[2]), "+f"(s[n].value.x[3])
#define KVEVICT_SUMS_OF_4 KVEVICT_SUMS(0), KVEVICT_SUMS(1), KVEVICT_SUMS(2), KVEVICT_SUMS(3)
#define KVEVICT_SUMS_OF_8 KVEVICT_SUMS_OF_4, KVEVICT_SUMS(4), KVEVICT_SUMS(5), KVEVICT_SUMS(6), KVEVICT_SUMS(7)
#define KVEVICT_WGMMA(columns, type, registers, a0, a1, a2, a3, from, add, sums)                          \
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" add ", 0;\nwgmma.mma_async.sync.aligned.m64n" columns \
               "k16.f32." type "." type " {" registers "}, {%" a0 ",%" a1 ",%" a2 ",%" a3 "}, %" from     \
               ", p, 1, 1, 0;\n}"                                                                         \
               : sums                                                                                     \
               : "r"(a.x[0]), "r"(a.x[1]), "r"(a.x[2]), "r"(a.x[3]), "l"(columns_at), "r"(static_cast<int>(add_them)))
#define KVEVICT_REGISTERS_OF_4 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15"
#define KVEVICT_REGISTERS_OF_8 KVEVICT_REGISTERS_OF_4 ",%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define KVEVICT_WGMMA_OF_4(type) \
  KVEVICT_WGMMA("32", type, KVEVICT_REGISTERS_OF_4, "16", "17", "18", "19", "20", "21", KVEVICT_SUMS_OF_4)
#define KVEVICT_WGMMA_OF_8(type) \
  KVEVICT_WGMMA("64", type, KVEVICT_REGISTERS_OF_8, "32", "33", "34", "35", "36", "37", KVEVICT_SUMS_OF_8)

template <class Element, class Sums>
__device__ __forceinline__ void start_wgmma(Sums (&s)[4], const mma_rows& a, std::uint64_t columns_at, bool add_them) {
  if constexpr (std::is_same_v<Element, bfloat16>)
    KVEVICT_WGMMA_OF_4("bf16");
  else
    KVEVICT_WGMMA_OF_4("f16");
}
template <class Element, class Sums>
__device__ __forceinline__ void start_wgmma(Sums (&s)[8], const mma_rows& a, std::uint64_t columns_at, bool add_them) {
  if constexpr (std::is_same_v<Element, bfloat16>)
    KVEVICT_WGMMA_OF_8("bf16");
  else
    KVEVICT_WGMMA_OF_8("f16");
}

/// Tells the compiler that only now the sums have their values.
template <class Sums>
__device__ __forceinline__ void written(Sums (&s)[4]) {
  asm volatile("" : KVEVICT_SUMS_OF_4::"memory");
}
template <class Sums>
__device__ __forceinline__ void written(Sums (&s)[8]) {
  asm volatile("" : KVEVICT_SUMS_OF_8::"memory");
}

#undef KVEVICT_WGMMA_OF_8
#undef KVEVICT_WGMMA_OF_4
#undef KVEVICT_REGISTERS_OF_8
#undef KVEVICT_REGISTERS_OF_4
#undef KVEVICT_WGMMA
#undef KVEVICT_SUMS_OF_8
#undef KVEVICT_SUMS_OF_4
#undef KVEVICT_SUMS

#endif

}  // namespace kvevict::detail
