// SPDX-License-Identifier: MIT
#include <cuda_runtime.h>

#include <algorithm>
#include <kvevict/cuda.cuh>
#include <kvevict/policy/spec.hpp>
#include <memory>
#include <stdexcept>

#include "device.hpp"

using namespace kvevict;

namespace {

void must(cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(std::string("the device: ") + cudaGetErrorString(error));
}
void must(const status& s) {
  if (!s.ok()) throw std::runtime_error(std::string("on the device: ") + s.argument + ": " + s.sentence);
}

/// Memory of the device, and copies of it.
struct give_back {
  void operator()(void* memory) const { cudaFree(memory); }
};
template <class T>
using device_memory = std::unique_ptr<T[], give_back>;
template <class T>
device_memory<T> room(std::size_t count) {
  void* memory = nullptr;
  must(cudaMalloc(&memory, std::max<std::size_t>(1, count) * sizeof(T)));
  return device_memory<T>(static_cast<T*>(memory));
}
template <class T>
device_memory<T> upload(const std::vector<T>& from) {
  auto memory = room<T>(from.size());
  must(cudaMemcpy(memory.get(), from.data(), from.size() * sizeof(T), cudaMemcpyHostToDevice));
  return memory;
}
template <class T>
std::vector<T> download(const device_memory<T>& from, std::size_t count) {
  std::vector<T> to(count);
  must(cudaMemcpy(to.data(), from.get(), count * sizeof(T), cudaMemcpyDeviceToHost));
  return to;
}

/// The best of three rounds between two events, because the first one pays for loading the kernels.
template <class F>
double seconds(const F& f) {
  cudaEvent_t begin{}, end{};
  must(cudaEventCreate(&begin));
  must(cudaEventCreate(&end));
  float best = 1e9F;
  for (int round = 0; round < 3; ++round) {
    must(cudaEventRecord(begin));
    f();
    must(cudaEventRecord(end));
    must(cudaEventSynchronize(end));
    float time = 0;
    must(cudaEventElapsedTime(&time, begin, end));
    best = std::min(best, time);
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  return static_cast<double>(best) / 1e3;
}

template <class Policy>
void run(const Policy& policy, const layer_capture& c, const task& what, device_run& out) {
  const index_t length = c.length - what.future;
  const gpu on{.longest = length};
  const cache_shape shape{1, 1, c.kv_heads, what.index, what.depth};
  const auto keys = upload(c.keys), values = upload(c.values), queries = upload(c.queries);
  const cache whole{shape, length, entries{keys.get(), hnd(1, c.kv_heads, c.length, c.dim), c.dim},
                    entries{values.get(), hnd(1, c.kv_heads, c.length, c.value_dim), c.value_dim}};
  const inputs in{whole, query_view{entries{queries.get(), hnd(1, c.query_heads, c.rows, c.dim), c.dim}, c.query_heads,
                                    greatest(0, c.rows - what.future)}};

  const auto heads = static_cast<std::size_t>(c.kv_heads), all = heads * static_cast<std::size_t>(length);
  std::vector<offset_t> places;
  for (std::size_t h = 0; h <= heads; ++h) places.push_back(static_cast<offset_t>(h) * length);
  const auto score_offsets = upload(places), offsets = room<offset_t>(heads + 1);
  const auto scores = room<float>(all);
  const auto slots = room<index_t>(all);
  const selection kept{{slots.get(), static_cast<offset_t>(all)}, {offsets.get(), c.kv_heads + 1}};
  const row_scores scored{shape, {scores.get(), score_offsets.get(), c.kv_heads}};
  const auto& scorer = scoring_policy(policy);
  const offset_t bytes = greatest(workspace_bytes(on, scorer, in), workspace_bytes(on, policy, scored));
  const auto scratch = room<std::byte>(static_cast<std::size_t>(bytes));
  const workspace memory{scratch.get(), bytes};
  out.score_seconds = seconds([&] {
    must(score_rows(on, scorer, in, {scores.get(), score_offsets.get(), c.kv_heads}, memory));
  });
  out.select_seconds = seconds([&] { must(select(on, policy, scored, kept, memory)); });

  // The survivors of all heads, back to back: the offsets of the selection are those of the smaller cache.
  const auto few_keys = room<float>(all * static_cast<std::size_t>(c.dim));
  const auto few_values = room<float>(all * static_cast<std::size_t>(c.value_dim));
  const cache smaller{shape, index_t{0}, entries{few_keys.get(), flat{offsets.get(), c.dim}, c.dim},
                      entries{few_values.get(), flat{offsets.get(), c.value_dim}, c.value_dim}};
  out.compact_seconds = seconds([&] { must(gather(on, whole, kept, smaller)); });
  const auto copy = room<float>(std::max(c.keys.size(), c.values.size()));
  out.copy_seconds = seconds([&] {
    must(cudaMemcpyAsync(copy.get(), keys.get(), c.keys.size() * sizeof(float), cudaMemcpyDeviceToDevice));
    must(cudaMemcpyAsync(copy.get(), values.get(), c.values.size() * sizeof(float), cudaMemcpyDeviceToDevice));
  });

  out.scores = download(scores, all);
  out.offsets = download(offsets, heads + 1);
  const auto total = static_cast<std::size_t>(out.offsets.back());
  out.slots = download(slots, total);
  out.keys = download(few_keys, total * static_cast<std::size_t>(c.dim));
  out.values = download(few_values, total * static_cast<std::size_t>(c.value_dim));
}

}  // namespace

std::string device_problem() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaSuccess && count > 0) return {};
  return std::string("no CUDA device was found (") +
         (error == cudaSuccess ? "the driver shows none" : cudaGetErrorString(error)) +
         "); run this on a machine with an NVIDIA GPU and its driver, or leave --backend out";
}

device_run run_on_device(const layer_capture& capture, const task& what, const std::string& spec, amount budget) {
  device_run out;
  const std::string wrong = visit_policy(spec, budget, [&](const auto& policy) { run(policy, capture, what, out); });
  if (!wrong.empty()) throw std::runtime_error(wrong);
  return out;
}
