// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>
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

}  // namespace device
