// SPDX-License-Identifier: MIT
// Ranks on a device (cuda/ranks.cuh): what the host refuses, anywhere; two ranks on one device; and, with the argument
// `nccl`, two ranks on two devices over NCCL. Ends with 77 where the devices are missing.
#include <kvevict/cuda.cuh>
#if KVEVICT_TEST_NCCL
#include <kvevict/nccl.cuh>
#endif

#include <barrier>
#include <cstring>
#include <string_view>
#include <thread>

#include "../support/device.hpp"

using namespace kvevict;

namespace {

constexpr index_t layers = 2, all_heads = 4, length = 700, dims = 32;
const adakv policy{knorm{.budget = slots(150)}};  // scores of a head do not depend on the heads beside it

int failures = 0;
void expect(bool holds, const char* what) {
  if (holds) return;
  std::printf("failed: %s\n", what);
  ++failures;
}

/// Keys of the heads first .. first + heads of every layer.
std::vector<float> keys_of(index_t first, index_t heads) {
  std::vector<float> keys;
  for (index_t layer = 0; layer < layers; ++layer)
    for (index_t h = first; h < first + heads; ++h)
      for (index_t i = 0; i < length * dims; ++i) {
        const auto number = static_cast<std::uint32_t>((layer * all_heads + h) * length * dims + i) * 2654435761u;
        keys.push_back(static_cast<float>(number >> 16) / 65536 * static_cast<float>(h + 1));
      }
  return keys;
}

/// The selection of some heads, row after row, and where each of them starts; `captured` runs it twice as a graph.
struct kept_slots {
  std::vector<offset_t> offsets;
  std::vector<index_t> slots;
};
template <class... More>
kept_slots evict_heads(index_t first, index_t heads, bool captured, cudaStream_t stream, const More&... more) {
  const device::array<float> keys(keys_of(first, heads));
  const device::array<index_t> retained(static_cast<std::size_t>(layers * heads * length));
  const device::array<offset_t> offsets(static_cast<std::size_t>(layers * heads + 1));
  const inputs in{
      key_cache{cache_shape{layers, 1, heads}, length, entries{keys.data(), hnd(1, heads, length, dims), dims}},
      more...};
  const gpu on{stream, length};
  const device::array<cache_line> scratch(cache_lines(workspace_bytes(on, policy, in)));
  const workspace memory{reinterpret_cast<std::byte*>(scratch.data()),
                         static_cast<offset_t>(scratch.size() * sizeof(cache_line))};
  const selection out{{retained.data(), static_cast<offset_t>(retained.size())},
                      {offsets.data(), static_cast<offset_t>(offsets.size())}};
  device::require(cudaDeviceSynchronize(), "inputs");  // the stream does not wait for the one that copies them
  if (captured) {
    cudaGraph_t graph{};
    cudaGraphExec_t ready{};
    device::require(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "begin capture");
    expect(evict(on, policy, in, out, memory).ok(), "a captured eviction");
    device::require(cudaStreamEndCapture(stream, &graph), "end capture");
    device::require(cudaGraphInstantiate(&ready, graph, 0), "instantiate");
    for (int i = 0; i < 2; ++i) device::require(cudaGraphLaunch(ready, stream), "graph");
    device::require(cudaStreamSynchronize(stream), "run");
    cudaGraphExecDestroy(ready);
    cudaGraphDestroy(graph);
  } else {
    expect(evict(on, policy, in, out, memory).ok(), "an eviction");
    device::require(cudaStreamSynchronize(stream), "run");
  }
  kept_slots kept{offsets.host(), retained.host()};
  kept.slots.resize(static_cast<std::size_t>(kept.offsets.back()));
  return kept;
}

/// Whether the rows of a rank are those that one process keeps.
bool same_rows(const kept_slots& alone, const kept_slots& mine, index_t first, index_t heads) {
  for (index_t row = 0; row < layers * heads; ++row) {
    const auto r = static_cast<std::size_t>(row);
    const auto a = static_cast<std::size_t>(row / heads * all_heads + first + row % heads);
    const offset_t count = mine.offsets[r + 1] - mine.offsets[r];
    if (count != alone.offsets[a + 1] - alone.offsets[a] ||
        std::memcmp(mine.slots.data() + mine.offsets[r], alone.slots.data() + alone.offsets[a],
                    static_cast<std::size_t>(count) * sizeof(index_t)) != 0)
      return false;
  }
  return true;
}

/// Two ranks in threads: the first has three heads, the second one. `sum_of(rank)` is called in the rank's thread.
template <class SumOf>
void two_ranks(bool captured, const SumOf& sum_of, const char* what) {
  kept_slots alone, kept[2];
  std::thread([&] { alone = evict_heads(0, all_heads, false, nullptr); }).join();
  std::vector<std::thread> threads;
  for (const int rank : {0, 1})
    threads.emplace_back([&, rank] {
      const auto sum = sum_of(rank);
      cudaStream_t stream{};
      device::require(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
      kept[rank] = evict_heads(3 * rank, 3 - 2 * rank, captured, stream, rank_view{3 * rank, all_heads, sum});
      cudaStreamDestroy(stream);
    });
  for (std::thread& t : threads) t.join();
  expect(same_rows(alone, kept[0], 0, 3) && same_rows(alone, kept[1], 3, 1), what);
}

__global__ void add(const std::int64_t* a, const std::int64_t* b, std::int64_t* sums, offset_t count) {
  for (offset_t i = threadIdx.x; i < count; i += blockDim.x) sums[i] = a[i] + b[i];
}

/// An all-reduce between two streams of one device.
struct stream_pair {
  std::barrier<> meet{2};
  std::int64_t *parts[2]{}, *sums[2]{};
  cudaEvent_t ready[2]{}, read[2]{};

  stream_pair() {
    for (const int rank : {0, 1}) {
      device::require(cudaMalloc(&sums[rank], 1 << 20), "cudaMalloc");
      device::require(cudaEventCreate(&ready[rank]), "event");
      device::require(cudaEventCreate(&read[rank]), "event");
    }
  }
  bool sum(int rank, cudaStream_t stream, const span<std::int64_t>& values) {
    parts[rank] = values.data;
    cudaEventRecord(ready[rank], stream);
    meet.arrive_and_wait();
    cudaStreamWaitEvent(stream, ready[1 - rank], 0);
    add<<<1, 256, 0, stream>>>(parts[0], parts[1], sums[rank], values.size());
    cudaEventRecord(read[rank], stream);
    meet.arrive_and_wait();
    cudaStreamWaitEvent(stream, read[1 - rank], 0);
    return cudaMemcpyAsync(values.data, sums[rank], static_cast<std::size_t>(values.size()) * sizeof(std::int64_t),
                           cudaMemcpyDeviceToDevice, stream) == cudaSuccess;
  }
};
struct on_stream {
  stream_pair* with;
  int rank;
  bool operator()(cudaStream_t stream, const span<std::int64_t>& values) const {
    return with->sum(rank, stream, values);
  }
};

/// One rank that has everything: its sums are what they are.
struct counted {
  int* calls;
  bool works = true;
  bool operator()(cudaStream_t, const span<std::int64_t>&) const {
    ++*calls;
    return works;
  }
};

/// What the host knows to be wrong: nothing, or zeros, are added; the status says what it is.
void refusals(bool has_device) {
  float key = 0;
  index_t slot = 0;
  offset_t offset[3]{};
  const selection out{{&slot, 1}, {offset, 3}};
  std::vector<cache_line> lines(10000);
  const auto call = [&](const float* keys, index_t first, const workspace& memory, int& calls) {
    const inputs in{key_cache{cache_shape{.kv_heads = 2}, length, entries{keys, hnd(1, 2, length, dims), dims}},
                    rank_view{first, all_heads, counted{&calls}}};
    return evict(gpu{nullptr, length}, policy, in, out, memory);
  };
  int calls = 0;
  status s = call(&key, 3, workspace_of(lines), calls);
  expect(s.code == status_code::bad_shape && std::string_view(s.argument) == "ranks", "heads outside are refused");
  expect(calls == 0, "without a place among the heads nothing is added");
  s = call(&key, 0, {}, calls);
  expect(s.code == status_code::small_workspace && calls == 0, "without a workspace nothing is added");
  if (!has_device) {
    s = call(nullptr, 0, workspace_of(lines), calls);
    expect(s.code == status_code::bad_pointer && std::string_view(s.argument) == "keys", "null keys are refused");
    return;
  }
  const device::array<cache_line> there(10000);
  const workspace memory{reinterpret_cast<std::byte*>(there.data()), offset_t{10000 * sizeof(cache_line)}};
  s = call(nullptr, 0, memory, calls);
  expect(s.code == status_code::bad_pointer && calls == 5, "a rank that is refused takes part in all sums");
}

void on_one_device() {
  int calls = 0;
  const kept_slots alone = evict_heads(0, all_heads, false, nullptr);
  cudaStream_t stream{};
  device::require(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
  const kept_slots captured = evict_heads(0, all_heads, true, stream, rank_view{0, all_heads, counted{&calls}});
  expect(same_rows(alone, captured, 0, all_heads) && calls == 5, "one rank, captured");
  cudaStreamDestroy(stream);
  stream_pair pair;
  two_ranks(
      false,
      [&](int rank) {
        return on_stream{&pair, rank};
      },
      "two ranks on one device");
}

}  // namespace

int main(int argc, char** argv) {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess) devices = 0;
  if (argc > 1 && std::string_view(argv[1]) == "nccl") {
#if KVEVICT_TEST_NCCL
    if (devices >= 2) {
      ncclComm_t communicators[2]{};
      expect(ncclCommInitAll(communicators, 2, nullptr) == ncclSuccess, "communicators");
      for (const bool captured : {false, true})
        two_ranks(
            captured,
            [&](int rank) {
              device::require(cudaSetDevice(rank), "device");
              return nccl_sum{communicators[rank]};
            },
            captured ? "two ranks over NCCL, captured" : "two ranks over NCCL");
      for (const ncclComm_t c : communicators) ncclCommDestroy(c);
      return failures == 0 ? 0 : 1;
    }
    std::puts("skipped: fewer than two CUDA devices; not run: ranks over NCCL keep what one process keeps");
#else
    std::puts("skipped: built without NCCL, nccl.h or libnccl was not found");
#endif
    return 77;
  }
  refusals(devices > 0);
  if (devices > 0) on_one_device();
  if (failures != 0) return 1;
  if (devices > 0) return 0;
  std::puts("skipped: no CUDA device; not run: ranks on one device keep what one process keeps, also captured");
  return 77;
}
