// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>
#include <kvevict/core/types.hpp>
#include <type_traits>

namespace kvevict {

/// How independent tasks are run; the engine's own thread pool is one struct with these two members.
///
///     index_t workers() const                  at least 1; each has its own scratch in the workspace
///     void run(index_t tasks, f) const         calls f(task, worker) once for every task in 0 .. tasks - 1;
///                                              two calls with the same worker never overlap
///
/// Tasks never share results, so every executor gives the same bits.
template <class E>
concept executor = requires(const E& e, void (*f)(index_t, index_t)) {
  { e.workers() } -> std::convertible_to<index_t>;
  e.run(index_t{}, f);
};

/// One task after another, on the caller's thread.
struct serial {
  [[nodiscard]] static constexpr index_t workers() { return 1; }
  template <class Task>
  static constexpr void run(index_t tasks, const Task& task) {
    for (index_t t = 0; t < tasks; ++t) task(t, index_t{0});
  }
};

/// The CPU backend: pass it first to an entry point to run there.
///
/// @code
/// cpu here{};                           // on the caller's thread
/// cpu everywhere{openmp{.threads = 8}};  // <kvevict/cpu/openmp.hpp>
/// @endcode
///
/// Compile with the vector instructions of the machine (-march=native, or -mavx2 -mfma): scoring and selection are one
/// source that the compiler turns into AVX-512, AVX2, SSE or NEON. A plain x86-64 build runs anywhere, at a fifth to
/// a half of the speed. -O2 is enough. Not with -ffast-math, nor a part of it that reorders sums or denies NaN: scores
/// would be off by up to a half of their value. Where the compiler tells, the headers refuse to compile.
template <executor Executor = serial>
struct cpu {
  Executor how{};
};
cpu()->cpu<>;
template <class Executor>
cpu(Executor) -> cpu<Executor>;

}  // namespace kvevict
