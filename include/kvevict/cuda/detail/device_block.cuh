// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <kvevict/cuda/detail/block.hpp>
#include <kvevict/cuda/detail/fragments.hpp>
#include <kvevict/cuda/detail/warpgroup.cuh>
#include <type_traits>

namespace kvevict::detail {

/// A block of a kernel (detail/block.hpp). Everything is inlined to what one would write by hand.
template <int Threads>
class device_block {
 public:
  template <class T>
  struct local {
    T value;
    __device__ __forceinline__ T& operator[](int) { return value; }
    __device__ __forceinline__ const T& operator[](int) const { return value; }
  };
  template <class T>
  struct memory {
    T* data;
    __device__ __forceinline__ T load(int, offset_t i) const { return data[i]; }
    __device__ __forceinline__ void store(int, offset_t i, T value) const { data[i] = value; }
    __device__ __forceinline__ T add(int, offset_t i, T value) const { return atomicAdd(data + i, value); }
    /// Where it lies in shared memory.
    [[nodiscard]] __device__ __forceinline__ std::uint32_t address() const {
      return static_cast<std::uint32_t>(__cvta_generic_to_shared(data));
    }
  };

  __device__ __forceinline__ explicit device_block(std::byte* shared_memory)
      : first_(shared_memory), next_(shared_memory) {}

  [[nodiscard]] __device__ __forceinline__ static index_t index() { return static_cast<index_t>(blockIdx.x); }
  [[nodiscard]] __device__ __forceinline__ static constexpr int threads() { return Threads; }
  template <class F>
  __device__ __forceinline__ static void each(const F& f) {
    f(static_cast<int>(threadIdx.x));
  }
  __device__ __forceinline__ static void sync() { __syncthreads(); }

  template <class T>
  [[nodiscard]] __device__ __forceinline__ static local<T> make_local() {
    return {};
  }
  template <class T>
  [[nodiscard]] __device__ __forceinline__ memory<T> shared(offset_t count) {
    T* const piece = reinterpret_cast<T*>(next_);
    next_ += (sizeof(T) * count + 15) / 16 * 16;
    return {piece};
  }
  __device__ __forceinline__ void reuse_shared() {
    __syncthreads();
    next_ = first_;
  }
  template <class T>
  [[nodiscard]] __device__ __forceinline__ static memory<T> team(T* data) {
    return {data};
  }
  template <class T>
  [[nodiscard]] __device__ __forceinline__ static T load(int, const void* place) {
    return *static_cast<const T*>(place);
  }
  template <class T>
  __device__ __forceinline__ static void store(int, void* place, const T& value) {
    *static_cast<T*>(place) = value;
  }
  [[nodiscard]] __device__ __forceinline__ static local<std::uint32_t> ballot(const local<bool>& x) {
    return {__ballot_sync(~0u, x.value)};
  }
  template <class T>
  [[nodiscard]] __device__ __forceinline__ static local<T> shuffle_up(const local<T>& x, int lanes) {
    return {__shfl_up_sync(~0u, x.value, static_cast<unsigned>(lanes))};
  }
  template <class T>
  [[nodiscard]] __device__ __forceinline__ static local<T> shuffle_xor(const local<T>& x, int lanes) {
    return {__shfl_xor_sync(~0u, x.value, lanes)};
  }
  template <class T>
  [[nodiscard]] __device__ __forceinline__ static memory<T> global(T* data, offset_t /*count*/,
                                                                   bool /*given*/ = false) {
    return {data};
  }
  template <class Element>
  __device__ __forceinline__ static void mma(local<mma_sums>& sums, const local<mma_rows>& a,
                                             const local<mma_columns>& b) {
    float(&s)[4] = sums.value.x;
    const std::uint32_t(&r)[4] = a.value.x;
    const std::uint32_t(&c)[2] = b.value.x;
    if constexpr (std::is_same_v<Element, tf32>)
      asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
          : "+f"(s[0]), "+f"(s[1]), "+f"(s[2]), "+f"(s[3])
          : "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3]), "r"(c[0]), "r"(c[1]));
    else if constexpr (std::is_same_v<Element, bfloat16>)
      asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
          : "+f"(s[0]), "+f"(s[1]), "+f"(s[2]), "+f"(s[3])
          : "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3]), "r"(c[0]), "r"(c[1]));
    else
      asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
          : "+f"(s[0]), "+f"(s[1]), "+f"(s[2]), "+f"(s[3])
          : "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3]), "r"(c[0]), "r"(c[1]));
  }
  template <class Place>
  __device__ __forceinline__ static void load_rows(local<mma_rows>& rows, const memory<std::uint32_t>& x,
                                                   const Place& place) {
    std::uint32_t(&r)[4] = rows.value.x;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(x.address() + static_cast<std::uint32_t>(4 * place(static_cast<int>(threadIdx.x))))
                 : "memory");
  }
  /// x, of which the compiler does not know that it is x: what follows from it is computed here, not kept in registers
  /// from before a loop.
  [[nodiscard]] __device__ __forceinline__ static int recomputed(int x) {
    asm volatile("" : "+r"(x));
    return x;
  }
  __device__ __forceinline__ static void sync_warp() { __syncwarp(); }
  template <class T>
  __device__ __forceinline__ static void copy_ahead(int, const memory<T>& to, offset_t i, const void* from,
                                                    bool given = true) {
    asm volatile(
        "cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to.address() + static_cast<std::uint32_t>(sizeof(T) * i)),
        "l"(__cvta_generic_to_global(from)), "r"(given ? 16 : 0)
        : "memory");
  }
  __device__ __forceinline__ static void copies_done() { asm volatile("cp.async.wait_all;" ::: "memory"); }
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  [[nodiscard]] __device__ __forceinline__ memory<std::uint64_t> split_barriers(offset_t count) {
    return shared<std::uint64_t>(count);
  }
  __device__ __forceinline__ static void start_barrier(int, const memory<std::uint64_t>& x, offset_t i) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(x.address() + static_cast<std::uint32_t>(8 * i)),
                 "r"(Threads)
                 : "memory");
  }
  __device__ __forceinline__ static void arrive(int, const memory<std::uint64_t>& x, offset_t i) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(x.address() + static_cast<std::uint32_t>(8 * i))
                 : "memory");
  }
  __device__ __forceinline__ static void wait(const memory<std::uint64_t>& x, offset_t i, int parity) {
    int done = 0;
    while (done == 0)
      asm volatile("{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.b32 %0, 1, 0, p;\n}"
                   : "=r"(done)
                   : "r"(x.address() + static_cast<std::uint32_t>(8 * i)), "r"(parity)
                   : "memory");
  }
  __device__ __forceinline__ static void wgmma_fence_stores() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  }
  __device__ __forceinline__ static void wgmma_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
  template <class Element, std::size_t Tiles>
  __device__ __forceinline__ static void wgmma(local<mma_sums> (&sums)[Tiles], const local<mma_rows>& a,
                                               std::uint64_t columns, bool add) {
    start_wgmma<Element>(sums, a.value, columns, add);
  }
  __device__ __forceinline__ static void wgmma_end() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
  template <int Later, class... Sums>
  __device__ __forceinline__ static void wgmma_wait(Sums&... sums) {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Later) : "memory");
    (written(sums), ...);
  }
#endif
  /// A value that is the same in all threads.
  template <class T>
  [[nodiscard]] __device__ __forceinline__ static T uniform(const local<T>& x) {
    return x.value;
  }

  [[nodiscard]] __device__ __forceinline__ static int team_rank() {
#if __CUDA_ARCH__ >= 900
    unsigned rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return static_cast<int>(rank);
#else
    return 0;
#endif
  }
  [[nodiscard]] __device__ __forceinline__ static int team_size() {
#if __CUDA_ARCH__ >= 900
    unsigned size;
    asm volatile("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
    return static_cast<int>(size);
#else
    return 1;
#endif
  }
  __device__ __forceinline__ static void team_sync() {
#if __CUDA_ARCH__ >= 900
    // Release and acquire order all accesses to memory, the device's too, for the threads of the cluster: no fence.
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
#else
    __syncthreads();
#endif
  }

 private:
  std::byte *first_, *next_;
};

}  // namespace kvevict::detail
