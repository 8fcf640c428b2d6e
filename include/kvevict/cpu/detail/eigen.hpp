// SPDX-License-Identifier: MIT
#pragma once

#if defined(__CUDACC__)
#error "kvevict: the CPU backend is for the host's compiler: include <kvevict/cpu.hpp> in .cpp files, and CUDA's in .cu"
#endif

#if defined(__FAST_MATH__) || defined(__ASSOCIATIVE_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
#error "kvevict: -ffast-math makes scores wrong: compile what includes <kvevict/cpu.hpp> with -fno-fast-math"
#endif

#include <Eigen/Core>
#include <kvevict/core/types.hpp>
#include <utility>

/// The only file that names Eigen.
///
/// Its matrix product would be the obvious tool, but it allocates its packing buffers; its packets (the vector
/// type of whatever instruction set the compiler may use: SSE, AVX, AVX-512, NEON, or a plain float) with their
/// arithmetic and vectorised exponential are what a fused, allocation-free loop needs.
namespace kvevict::detail {

using packet = Eigen::internal::packet_traits<float>::type;
inline constexpr index_t packet_size = Eigen::internal::packet_traits<float>::size;
inline constexpr bool many_registers = EIGEN_ARCH_DEFAULT_NUMBER_OF_REGISTERS >= 32 || packet_size >= 16;

inline packet load(const float* p) { return Eigen::internal::ploadu<packet>(p); }
inline void store(float* p, const packet& v) { Eigen::internal::pstoreu(p, v); }
inline packet broadcast(float x) { return Eigen::internal::pset1<packet>(x); }
inline packet add(const packet& a, const packet& b) { return Eigen::internal::padd(a, b); }
inline packet subtract(const packet& a, const packet& b) { return Eigen::internal::psub(a, b); }
inline packet multiply(const packet& a, const packet& b) { return Eigen::internal::pmul(a, b); }
inline packet divide(const packet& a, const packet& b) { return Eigen::internal::pdiv(a, b); }
inline packet multiply_add(const packet& a, const packet& b, const packet& c) {
  return Eigen::internal::pmadd(a, b, c);
}
inline packet maximum(const packet& a, const packet& b) { return Eigen::internal::pmax(a, b); }
inline float sum(const packet& a) { return Eigen::internal::predux(a); }

/// b, but NaN where a is.
inline packet number_of(const packet& a, const packet& b) {
  return Eigen::internal::pselect(Eigen::internal::pcmp_eq(a, a), b, a);
}

/// Sums of neighbours: (a0 + a1, a2 + a3, ..., b0 + b1, b2 + b3, ...). A packet is a vector type of the compiler, so
/// that one builtin does for every instruction set.
template <class Packet, std::size_t... I>
Packet add_pairs(const Packet& a, const Packet& b, std::index_sequence<I...>) {
#if defined(__has_builtin) && __has_builtin(__builtin_shufflevector)
  return __builtin_shufflevector(a, b, (2 * I)...) + __builtin_shufflevector(a, b, (2 * I + 1)...);
#else
  constexpr std::size_t n = sizeof...(I);
  float in[2 * n], out[n];
  store(in, a);
  store(in + n, b);
  static_cast<void>(((out[I] = in[2 * I] + in[2 * I + 1]), ...));
  return load(out);
#endif
}

/// A float array as an Eigen expression, for loops that need no more.
inline auto array(float* data, index_t count) { return Eigen::Map<Eigen::ArrayXf>(data, count); }
inline auto array(const float* data, index_t count) { return Eigen::Map<const Eigen::ArrayXf>(data, count); }

/// to[j] becomes the greater of to[j] and from[j]; where only one of them is a number, that one.
inline void raise(float* to, const float* from, index_t count) {
  using greater = Eigen::internal::scalar_max_op<float, float, Eigen::PropagateNumbers>;
  array(to, count) = array(to, count).binaryExpr(array(from, count), greater{});
}

}  // namespace kvevict::detail
