// SPDX-License-Identifier: MIT
#pragma once

#include <cstring>
#include <kvevict/cuda/backend.cuh>
#include <kvevict/kvevict.hpp>
#include <string>
#include <vector>

#include "../support/device.hpp"
#include "../support/stored.hpp"

/// How the tests run a call on the device: plainly, and captured into a graph that is replayed.
namespace on_device {

using kvevict::index_t;
using kvevict::offset_t;

/// Memory that a call writes: put back before each run, compared bit by bit after it.
class outputs {
 public:
  template <class T>
  void add(const device::array<T>& memory) {
    if (memory.size() == 0) return;
    pieces_.push_back({memory.data(), bytes_of({memory.data(), memory.size() * sizeof(T)})});
  }
  void put_back() const {
    for (const piece& p : pieces_)
      device::require(cudaMemcpy(p.data, p.before.data(), p.before.size(), cudaMemcpyHostToDevice), "put back");
  }
  void remember() {
    first_.clear();
    for (const piece& p : pieces_) first_.push_back(bytes_of({p.data, p.before.size()}));
  }
  [[nodiscard]] bool as_remembered() const {
    for (std::size_t i = 0; i < pieces_.size(); ++i)
      if (bytes_of({pieces_[i].data, pieces_[i].before.size()}) != first_[i]) return false;
    return true;
  }

 private:
  struct piece {
    void* data;
    std::vector<char> before;
  };
  struct memory {
    const void* data;
    std::size_t bytes;
  };
  [[nodiscard]] static std::vector<char> bytes_of(const memory& m) {
    std::vector<char> copy(m.bytes);
    device::require(cudaMemcpy(copy.data(), m.data, m.bytes, cudaMemcpyDeviceToHost), "copy from the device");
    return copy;
  }
  std::vector<piece> pieces_;
  std::vector<std::vector<char>> first_;
};

using device::scratch;

/// Runs `call(gpu)`, which returns a status, twice plainly, then captured once and replayed `runs` times. Every run
/// must leave the same bits. Returns what went wrong, or nothing.
template <class Call>
[[nodiscard]] std::string repeated(outputs& out, const scratch& memory, int runs, const Call& call) {
  cudaStream_t stream{};
  device::require(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
  std::string wrong;
  const auto run = [&](int i, const auto& start) {
    out.put_back();
    memory.spoil(i);
    device::require(cudaDeviceSynchronize(), "before a run");
    start();
    device::require(cudaStreamSynchronize(stream), "run");
  };
  const auto refused = [](const kvevict::status& s) { return std::string(s.argument) + ": " + s.sentence; };
  const auto plainly = [&] {
    if (const kvevict::status s = call(kvevict::gpu{stream}); !s.ok()) wrong = refused(s);
  };
  run(0, plainly);
  out.remember();
  if (wrong.empty()) run(1, plainly);
  if (wrong.empty() && !out.as_remembered()) wrong = "the second run left other bits than the first";
  if (wrong.empty()) {
    cudaGraph_t graph{};
    cudaGraphExec_t ready{};
    device::require(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "begin capture");
    plainly();
    device::require(cudaStreamEndCapture(stream, &graph), "end capture");
    device::require(cudaGraphInstantiate(&ready, graph, 0), "instantiate");
    for (int i = 0; i < runs && wrong.empty(); ++i) {
      run(i + 2, [&] { device::require(cudaGraphLaunch(ready, stream), "graph"); });
      if (!out.as_remembered()) wrong = "replay " + std::to_string(i + 1) + " left other bits than a plain run";
    }
    device::require(cudaGraphExecDestroy(ready), "destroy");
    device::require(cudaGraphDestroy(graph), "destroy");
  }
  device::require(cudaStreamDestroy(stream), "destroy");
  return wrong;
}

/// A stored cache in memory of the device, in the same layout.
template <class E, class KeyLayout, class ValueLayout>
struct stored_copy {
  const host::stored<E, KeyLayout, ValueLayout>& from;
  device::array<index_t> lengths{from.lengths}, table{from.table};
  device::array<offset_t> offsets{from.offsets};
  device::array<E> keys{from.keys}, values{from.values};

  explicit stored_copy(const host::stored<E, KeyLayout, ValueLayout>& stored) : from(stored) {}

  template <class Layout>
  [[nodiscard]] Layout here(Layout layout) const {
    if constexpr (requires { layout.block_table; }) layout.block_table = table.data();
    if constexpr (requires { layout.offsets; }) layout.offsets = offsets.data();
    return layout;
  }
  [[nodiscard]] auto cache() const {
    return kvevict::cache{from.shape, lengths.data(), kvevict::entries{keys.data(), here(from.key_layout), from.dim},
                          kvevict::entries{values.data(), here(from.value_layout), from.value_dim}};
  }
};

}  // namespace on_device
