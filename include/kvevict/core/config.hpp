// SPDX-License-Identifier: MIT
#pragma once

/// @file
/// The library's only macros besides the version: two annotations and one replaceable assertion.

#if defined(__CUDACC__)
#define KVEVICT_HOST_DEVICE __host__ __device__
#else
#define KVEVICT_HOST_DEVICE
#endif

/// Checks an internal invariant, never a caller's mistake (those are reported by `status`). Off unless the
/// includer defines it, so that a release build pays nothing and an engine can route it to its own handler.
#if !defined(KVEVICT_ASSERT)
#define KVEVICT_ASSERT(condition) static_cast<void>(0)
#endif

/// Before a function for both sides that calls what it is given: a lambda of the host on the host is no mistake.
#if defined(__CUDACC__)
#define KVEVICT_CALLS_BACK _Pragma("nv_exec_check_disable")
#else
#define KVEVICT_CALLS_BACK
#endif

/// Before a loop that device code must not unroll: it is not the one that takes time, and its copies take registers.
#if defined(__CUDACC__)
#define KVEVICT_ROLLED _Pragma("unroll 1")
#else
#define KVEVICT_ROLLED
#endif

/// Before a loop that device code must unroll, because what it indexes lies in registers; on the host it may be.
#if defined(__CUDACC__)
#define KVEVICT_UNROLLED _Pragma("unroll")
#else
#define KVEVICT_UNROLLED
#endif

/// Before a loop of the CPU backend whose few rounds are known: unroll it completely, at any optimisation level.
#if defined(__clang__)
#define KVEVICT_UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define KVEVICT_UNROLL _Pragma("GCC unroll 16")
#else
#define KVEVICT_UNROLL
#endif
