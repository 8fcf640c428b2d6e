// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <kvevict/core/status.hpp>
#include <vector>

#include "../../tests/support/device.hpp"
#include "measured.hpp"

/// Times of graphs.
namespace measured {

/// Inputs that take turns fill more than this, so that no cache holds what the next run reads.
inline constexpr double beyond_caches = 300e6;
[[nodiscard]] inline std::size_t turns_of(double bytes_of_one) {
  return static_cast<std::size_t>(std::clamp(beyond_caches / bytes_of_one + 1, 1.0, 64.0));
}

/// Ends the program where a call is refused: a benchmark measures nothing then.
inline void require(const kvevict::status& s, const char* call) {
  if (s.ok()) return;
  std::fprintf(stderr, "%s: %s: %s\n", call, s.argument, s.sentence);
  std::exit(1);
}

using device::scratch;

/// A graph of what `record(stream)` puts into a stream.
class graph {
 public:
  template <class Record>
  graph(cudaStream_t stream, const Record& record) {
    cudaGraph_t recorded{};
    device::require(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "begin capture");
    record(stream);
    device::require(cudaStreamEndCapture(stream, &recorded), "end capture");
    device::require(cudaGraphGetNodes(recorded, nullptr, &nodes_), "nodes");
    device::require(cudaGraphInstantiate(&ready_, recorded, 0), "instantiate");
    device::require(cudaGraphDestroy(recorded), "destroy");
  }
  graph(const graph&) = delete;
  graph(graph&& other) noexcept : ready_(other.ready_), nodes_(other.nodes_) { other.ready_ = nullptr; }
  ~graph() {
    if (ready_ != nullptr) cudaGraphExecDestroy(ready_);
  }
  void launch(cudaStream_t stream) const { device::require(cudaGraphLaunch(ready_, stream), "launch"); }
  [[nodiscard]] int nodes() const { return static_cast<int>(nodes_); }

 private:
  cudaGraphExec_t ready_{};
  std::size_t nodes_ = 0;
};

/// Keeps a stream busy, a tenth of a millisecond or so, while the host submits what shall be timed behind it.
template <long long Cycles>
__global__ void hold_back() {
  const long long begin = clock64();
  while (clock64() - begin < Cycles) {
  }
}

/// The median of 50 replays, or of fewer where they would take longer than four seconds, but of five at least.
/// `record(i, stream)` puts the call on input i into a stream.
template <class Record>
timing replay(std::size_t inputs, const Record& record) {
  cudaStream_t stream{};
  cudaEvent_t begin{}, end{};
  device::require(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
  device::require(cudaEventCreate(&begin), "event");
  device::require(cudaEventCreate(&end), "event");
  device::require(cudaDeviceSynchronize(), "inputs");
  record(0, stream);  // once outside a capture: what is loaded late is loaded now
  device::require(cudaStreamSynchronize(stream), "first run");
  timing result;
  {
    std::vector<graph> graphs;
    for (std::size_t i = 0; i < inputs; ++i) graphs.emplace_back(stream, [&](cudaStream_t s) { record(i, s); });
    result.launches = graphs.front().nodes();
    const auto once = [&](std::size_t i) {
      hold_back<200000><<<1, 1, 0, stream>>>();
      device::require(cudaEventRecord(begin, stream), "record");
      graphs[i % inputs].launch(stream);
      device::require(cudaEventRecord(end, stream), "record");
      device::require(cudaEventSynchronize(end), "run");
      float milliseconds = 0;
      device::require(cudaEventElapsedTime(&milliseconds, begin, end), "time");
      return static_cast<double>(milliseconds) / 1e3;
    };
    double warm = 0;
    for (std::size_t i = 0; i < inputs + 1; ++i) warm = once(i);
    result.runs = static_cast<int>(std::clamp(4 / (warm + 1e-9), 5.0, 50.0));
    std::vector<double> times;
    for (int r = 0; r < result.runs; ++r) times.push_back(once(static_cast<std::size_t>(r)));
    std::nth_element(times.begin(), times.begin() + result.runs / 2, times.end());
    result.median_seconds = times[static_cast<std::size_t>(result.runs / 2)];
  }
  device::require(cudaEventDestroy(begin), "destroy");
  device::require(cudaEventDestroy(end), "destroy");
  device::require(cudaStreamDestroy(stream), "destroy");
  return result;
}

}  // namespace measured
