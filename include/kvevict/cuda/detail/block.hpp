// SPDX-License-Identifier: MIT
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <kvevict/core/types.hpp>

/// How kernels are written: once, for a block of threads that is a type of its own.
///
/// On the device it is `device_block` and costs nothing. Tests put a block of the host in its place, which runs the
/// threads between two barriers in random order and remembers who touched which word of shared memory, so that a
/// missing barrier, a wrong index and a wrong sum are found without a GPU. A block offers:
///
///     index(), threads()          which block of the grid; threads in it, a multiple of 32
///     each(f)                     f(thread) for every thread; nothing waits for anything
///     sync()                      all threads of the block have come here
///     local<T>                    a value per thread: x[thread]
///     shared<T>(count)            an array in shared memory; pieces lie one after another
///                                 load(thread, i), store(thread, i, value); add(thread, i, value) returns what was
///                                 there before, which depends on the order of the threads
///     reuse_shared()              all threads have come here, and what was given out is given out again
///     load<T>(thread, place)      memory of the device, which a block may read and write as its threads like: watched
///     store(thread, place, value) byte by byte as shared memory is, and between the blocks of a grid, who never wait
///     ballot(x)                   local<bool> -> local<uint32_t>, bit = lane of the own warp
///     shuffle_up(x, n)            the value of the lane n below; of the first n lanes their own
///     shuffle_xor(x, n)           the value of the lane whose number differs in the bits of n
///     global(pointer, count)      an array in the device's memory that no other block touches meanwhile: load, store;
///                                 what it held before is read only where `given`, a last argument, is true
///     mma<Element>(sums, a, b)    sums += a * b, a warp's matrices of 16-bit elements (detail/fragments.hpp)
///     recomputed(x)               x, an int; on the device what follows from it is not kept in registers for long
///     load_rows(rows, x, place)   the rows of `mma`: 16 bytes each, the words from x[place(t)] on, are named by the
///                                 lanes 0 .. 7 for rows 0 .. 7 and k 0 .. 7, then for rows 8 .. 15, then for k 8 .. 15
///     sync_warp()                 all threads of the warp have come here
///     copy_ahead(t, x, i, from)   starts a copy of 16 bytes to shared memory, from x[i] on; of zeros where `given`, a
///                                 last argument, is false
///     copies_done()               the copies of every thread have arrived, for the thread alone
///     split_barriers(count)       on sm_90: barriers of which a thread may be at one while others are at the next.
///                                 start_barrier(t, x, i), arrive(t, x, i), and wait(x, i, parity) until all threads
///                                 have arrived for the n-th time, parity = n % 2, the first being number 0
///     wgmma ...                   a warpgroup's matrices, on sm_90a (detail/warpgroup.hpp)
///     team_rank(), team_size()    blocks that work on the same pool; their shared memory is not shared
///     team_sync()                 all threads of the team have come here and see what the others wrote to the
///                                 memory that `team(pointer)` wraps: load, store as above
///
/// `sync`, `ballot`, the shuffles, `mma`, `copies_done`, `wait`, `wgmma` and the team's are called by all threads
/// together, outside of `each`.
namespace kvevict::detail {

inline constexpr int warp_threads = 32;
inline constexpr int warp_steps = 5;  ///< of a sum over a warp: 2^5 threads

/// Bits of the lanes below one's own.
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr std::uint32_t lanes_below(int thread) {
  return (std::uint32_t{1} << (thread % warp_threads)) - 1;
}

[[nodiscard]] KVEVICT_HOST_DEVICE constexpr int bits_set(std::uint32_t mask) {
#if defined(__CUDA_ARCH__)
  return __popc(mask);
#else
  return std::popcount(mask);
#endif
}

/// Every x becomes its sum over the lanes of the own warp whose numbers differ in the bits from `low`, included, to
/// `high`, excluded, powers of two; in a fixed order, the same bits in all of them.
template <class Block, class Local, std::size_t Count>
KVEVICT_HOST_DEVICE void lane_sums(Block& b, Local (&x)[Count], int low, int high) {
  KVEVICT_UNROLLED for (int reach = 1; reach < warp_threads; reach *= 2) {
    if (reach < low || reach >= high) continue;
    KVEVICT_UNROLLED for (std::size_t i = 0; i < Count; ++i) {
      const Local other = b.shuffle_xor(x[i], reach);
      b.each([&](int t) { x[i][t] = x[i][t] + other[t]; });
    }
  }
}

/// before[t] = sum of x over the threads below t, in a fixed order; returns the sum of all. `of_warps` is shared memory
/// of one T per warp and may be used again at once.
template <class T, class Block, class Local, class Shared>
KVEVICT_HOST_DEVICE T exclusive_sums(Block& b, const Local& x, Local& before, const Shared& of_warps) {
  Local sum = x;
  KVEVICT_UNROLLED for (int step = 0; step < warp_steps; ++step) {
    const int reach = 1 << step;
    const Local below = b.shuffle_up(sum, reach);
    b.each([&](int t) {
      if (t % warp_threads >= reach) sum[t] = below[t] + sum[t];
    });
  }
  b.each([&](int t) {
    if (t % warp_threads == warp_threads - 1) of_warps.store(t, t / warp_threads, sum[t]);
  });
  b.sync();
  Local warps[] = {x, x};  // of lower warps, and of all: lane i has that of warp i, and the warp adds them up
  b.each([&](int t) {
    const int warp = t % warp_threads;
    const T of_warp = warp < b.threads() / warp_threads ? of_warps.load(t, warp) : T{};
    warps[0][t] = warp < t / warp_threads ? of_warp : T{};
    warps[1][t] = of_warp;
  });
  lane_sums(b, warps, 1, warp_threads);
  b.each([&](int t) { before[t] = warps[0][t] + sum[t] - x[t]; });
  b.sync();
  return b.uniform(warps[1]);
}

/// The sum of x over the threads of the own warp, likewise.
template <class Block, class Local>
[[nodiscard]] KVEVICT_HOST_DEVICE Local warp_sums(Block& b, const Local& x) {
  Local sum[] = {x};
  lane_sums(b, sum, 1, warp_threads);
  return sum[0];
}

/// x over all threads by op(a, b), in a fixed order, the same bits in all of them. `of_warps` is shared memory of one
/// value per warp and may be used again at once.
template <class Block, class Local, class Shared, class Op>
[[nodiscard]] KVEVICT_HOST_DEVICE Local reduce_block(Block& b, Local x, const Shared& of_warps, const Op& op) {
  KVEVICT_UNROLLED for (int step = 0; step < warp_steps; ++step) {
    const Local other = b.shuffle_xor(x, 1 << step);
    b.each([&](int t) { x[t] = op(x[t], other[t]); });
  }
  b.each([&](int t) {
    if (t % warp_threads == 0) of_warps.store(t, t / warp_threads, x[t]);
  });
  b.sync();
  b.each([&](int t) {
    auto all = of_warps.load(t, 0);
    KVEVICT_ROLLED for (int w = 1; w < b.threads() / warp_threads; ++w) all = op(all, of_warps.load(t, w));
    x[t] = all;
  });
  b.sync();
  return x;
}

}  // namespace kvevict::detail
