// SPDX-License-Identifier: MIT
#pragma once

#include <tensor_file.hpp>

/// A weight matrix [outputs][inputs] as it lies in a mapped file, fp32 or bf16.
struct matrix {
  const void* data = nullptr;
  bool bf16 = false;
  int outputs = 0, inputs = 0;

  matrix() = default;
  explicit matrix(const file_tensor& t);
  [[nodiscard]] std::int64_t bytes() const { return std::int64_t{outputs} * inputs * (bf16 ? 2 : 4); }
  /// One row, converted.
  void row(int output, float* to) const;
};

/// y[rows][outputs] = x[rows][inputs] w^T, on all threads.
void multiply(const float* x, int rows, const matrix& w, float* y);
