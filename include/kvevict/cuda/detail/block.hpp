// SPDX-License-Identifier: MIT
#pragma once

#include <bit>
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
///                                 load(thread, i), store(thread, i, value), add(thread, i, value)
///     load<T>(thread, place)      memory of the device, which a block may read and write as its threads like: watched
///     store(thread, place, value) byte by byte as shared memory is, and between the blocks of a grid, who never wait
///     ballot(x)                   local<bool> -> local<uint32_t>, bit = lane of the own warp
///     shuffle_up(x, n)            the value of the lane n below; of the first n lanes their own
///     team_rank(), team_size()    blocks that work on the same pool; their shared memory is not shared
///     team_sync()                 all threads of the team have come here and see what the others wrote to the
///                                 memory that `team(pointer)` wraps: load, store as above
///
/// `sync`, `ballot`, `shuffle_up` and the team's are called by all threads together, outside of `each`.
namespace kvevict::detail {

inline constexpr int warp_threads = 32;

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

/// before[t] = sum of x over the threads below t, in a fixed order; returns the sum of all. `of_warps` is shared memory
/// of one T per warp and may be used again at once.
template <class T, class Block, class Local, class Shared>
KVEVICT_HOST_DEVICE T exclusive_sums(Block& b, const Local& x, Local& before, const Shared& of_warps) {
  Local sum = x;
  KVEVICT_UNROLL for (int reach = 1; reach < warp_threads; reach *= 2) {
    const Local below = b.shuffle_up(sum, reach);
    b.each([&](int t) {
      if (t % warp_threads >= reach) sum[t] = below[t] + sum[t];
    });
  }
  b.each([&](int t) {
    if (t % warp_threads == warp_threads - 1) of_warps.store(t, t / warp_threads, sum[t]);
  });
  b.sync();
  Local all = x;
  b.each([&](int t) {
    T total = 0, lower = 0;
    KVEVICT_ROLLED for (int w = 0; w < b.threads() / warp_threads; ++w) {
      if (w == t / warp_threads) lower = total;
      total += of_warps.load(t, w);
    }
    before[t] = lower + sum[t] - x[t];
    all[t] = total;
  });
  b.sync();
  return b.uniform(all);
}

}  // namespace kvevict::detail
