// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>
#include <kvevict/core/workspace.hpp>
#include <vector>

/// Memory of a GPU for tests, by value: nothing here is for speed.
namespace device {

inline void require(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}

/// Whether there is one to run on.
inline bool found() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
}

/// A copy of a vector on the device, filled with 0xff where it has no contents yet.
template <class T>
class array {
 public:
  explicit array(std::size_t count) : count_(count) {
    require(cudaMalloc(&data_, count * sizeof(T) + 1), "cudaMalloc");
    require(cudaMemset(data_, 0xff, count * sizeof(T)), "cudaMemset");
  }
  explicit array(const std::vector<T>& contents) : array(contents.size()) {
    if (count_ == 0) return;
    require(cudaMemcpy(data_, contents.data(), count_ * sizeof(T), cudaMemcpyHostToDevice), "copy to the device");
  }
  array(const array&) = delete;
  array& operator=(const array&) = delete;
  ~array() { cudaFree(data_); }

  [[nodiscard]] T* data() const { return data_; }
  [[nodiscard]] std::size_t size() const { return count_; }
  [[nodiscard]] std::vector<T> host() const {
    std::vector<T> copy(count_);
    if (count_ == 0) return copy;
    require(cudaMemcpy(copy.data(), data_, count_ * sizeof(T), cudaMemcpyDeviceToHost), "copy from the device");
    return copy;
  }

 private:
  T* data_ = nullptr;
  std::size_t count_;
};

/// A workspace, of as many bytes as are asked for, whose contents mean nothing.
class scratch {
 public:
  explicit scratch(kvevict::offset_t bytes) : bytes_(bytes), lines_(kvevict::cache_lines(bytes)) {}
  [[nodiscard]] kvevict::workspace get() const { return {kvevict::workspace_of(lines_).data, bytes_}; }
  [[nodiscard]] kvevict::offset_t bytes() const { return bytes_; }
  /// Other contents for every run.
  void spoil(int run) const {
    constexpr int contents[] = {0xff, 0x00, 0x7f, 0x3c};
    require(cudaMemset(lines_.data(), contents[run % 4], lines_.size() * sizeof(kvevict::cache_line)), "spoil");
  }

 private:
  kvevict::offset_t bytes_;
  array<kvevict::cache_line> lines_;
};

}  // namespace device
