// SPDX-License-Identifier: MIT
#include <kvevict/cuda/compact.cuh>
#include <kvevict/cuda/evict.cuh>

#include "on_device.hpp"
#include "on_device_run.cuh"

namespace on_device {

using namespace kvevict;

bool found() { return device::found(); }

std::string description() {
  int driver = 0, runtime = 0, at = 0;
  cudaDeviceProp properties{};
  device::require(cudaDriverGetVersion(&driver), "driver");
  device::require(cudaRuntimeGetVersion(&runtime), "runtime");
  device::require(cudaGetDevice(&at), "device");
  device::require(cudaGetDeviceProperties(&properties, at), "device");
  return std::string(properties.name) + ", sm_" + std::to_string(properties.major) + std::to_string(properties.minor) +
         ", CUDA of the driver " + std::to_string(driver) + ", runtime " + std::to_string(runtime);
}

template <class Policy, class Inputs>
status calls::evict(index_t longest, const Policy& policy, const Inputs& in, const selection& out,
                    const workspace& memory) {
  return kvevict::evict(gpu{.longest = longest}, policy, in, out, memory);
}
template <class Policy, class Inputs>
status calls::score_rows(index_t longest, const Policy& policy, const Inputs& in, const ragged<float>& out,
                         const workspace& memory) {
  return kvevict::score_rows(gpu{.longest = longest}, policy, in, out, memory);
}
template <class Policy, class Inputs>
offset_t calls::workspace_bytes(index_t longest, const Policy& policy, const Inputs& in) {
  return kvevict::workspace_bytes(gpu{.longest = longest}, policy, in);
}
status calls::select(const row_scores& in, const selection& out, const workspace& memory) {
  return kvevict::select(gpu{}, adakv{snapkv<>{}}, in, out, memory);
}
offset_t calls::workspace_bytes(const row_scores& in) { return kvevict::workspace_bytes(gpu{}, adakv{snapkv<>{}}, in); }
template <class Cache>
status calls::gather(const Cache& from, const selection& kept, const Cache& to, const side_array<index_t>& s) {
  return kvevict::gather(gpu{}, from, kept, to, s);
}
template <class Cache>
status calls::compact_in_place(const Cache& cache, const selection& kept, const side_array<index_t>& s) {
  return kvevict::compact_in_place(gpu{}, cache, kept, s);
}
template <class Cache>
status calls::swap_fill(const Cache& cache, const token_order& order, const selection& kept, const workspace& memory) {
  return kvevict::swap_fill(gpu{}, cache, order, kept, memory);
}
status calls::retained_lengths(const selection& kept, index_t* lengths) {
  return kvevict::retained_lengths(gpu{}, kept, lengths);
}

using dense = entries<float, strided>;
using held = cache<dense, dense>;
using asked = inputs<held, query_view<dense>, log_sum_exp_view, position_view, value_norm_view>;
template status calls::evict(index_t, const ahakv<score::plain_gain>&, const asked&, const selection&,
                             const workspace&);
template status calls::score_rows(index_t, const ahakv<score::plain_gain>&, const asked&, const ragged<float>&,
                                  const workspace&);
template offset_t calls::workspace_bytes(index_t, const ahakv<score::plain_gain>&, const asked&);
template status calls::gather(const held&, const selection&, const held&, const side_array<index_t>&);
template status calls::compact_in_place(const held&, const selection&, const side_array<index_t>&);
template status calls::swap_fill(const held&, const token_order&, const selection&, const workspace&);

namespace {

/// One selection, and compaction by it, on the device.
struct small_call {
  device::array<float> scores, keys;
  device::array<offset_t> score_offsets, offsets;
  device::array<index_t> slots;
  scratch memory;
  row_scores given;

  explicit small_call(const scored_rows& in)
      : scores(in.scores),
        keys(in.scores),
        score_offsets(in.offsets),
        offsets(in.offsets.size()),
        slots(in.scores.size()),
        memory(calls::workspace_bytes(view(in))),
        given(view(in)) {}
  [[nodiscard]] row_scores view(const scored_rows& in) const {
    return {in.shape, {scores.data(), score_offsets.data(), static_cast<index_t>(in.shape.rows())}};
  }
  [[nodiscard]] selection out() const {
    return {{slots.data(), static_cast<offset_t>(slots.size())},
            {offsets.data(), static_cast<offset_t>(offsets.size())}};
  }
  [[nodiscard]] status select() const { return calls::select(given, out(), memory.get()); }
  [[nodiscard]] status compact() const {
    const key_cache cache{given.shape, index_t{1}, entries{keys.data(), flat{score_offsets.data(), 1}, 1}};
    return kvevict::compact_in_place(gpu{}, cache, out());
  }
};

__global__ void write_nowhere() { *reinterpret_cast<volatile int*>(8) = 1; }

}  // namespace

std::string after_refused_allocation(const scored_rows& in) {
  const small_call call(in);
  device::require(cudaDeviceSynchronize(), "before");
  void* nothing = nullptr;
  if (cudaMalloc(&nothing, std::size_t{1} << 46) != cudaErrorMemoryAllocation) return "the allocation was not refused";
  if (const status s = call.select(); !s.ok()) return std::string("select: ") + s.sentence;
  if (const status s = call.compact(); !s.ok()) return std::string("compact_in_place: ") + s.sentence;
  if (calls::select({}, call.out(), call.memory.get()).ok()) return "a bad call was not refused";
  const cudaError_t still = cudaGetLastError();
  device::require(cudaDeviceSynchronize(), "after");
  return still == cudaErrorMemoryAllocation ? "" : std::string("the error became: ") + cudaGetErrorString(still);
}

std::string after_broken_context(const scored_rows& in) {
  const small_call call(in);
  write_nowhere<<<1, 1>>>();
  const cudaError_t error = cudaDeviceSynchronize();
  if (error == cudaSuccess) return "a write to nowhere passed";
  const status s = call.select();
  if (s.code != status_code::device_error || std::string(s.argument) != "stream")
    return "select did not say that the device is lost";
  const cudaError_t still = cudaDeviceSynchronize();
  return still == error ? "" : std::string("the error became: ") + cudaGetErrorString(still);
}

}  // namespace on_device
