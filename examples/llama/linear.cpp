// SPDX-License-Identifier: MIT
#include "linear.hpp"

#include <omp.h>

#include <Eigen/Core>
#include <algorithm>
#include <cstring>
#include <kvevict/core/element.hpp>

namespace {

using row_major = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using map = Eigen::Map<row_major>;
using constant_map = Eigen::Map<const row_major>;

void convert(const std::uint16_t* from, std::int64_t count, float* to) {
  for (std::int64_t i = 0; i < count; ++i) to[i] = kvevict::to_float(kvevict::bfloat16{from[i]});
}

/// Sum of w[i] x[i], as many sums side by side that compilers turn into vectors: where weights are read only once, a
/// conversion of its own would take longer than the product.
float dot(const std::uint16_t* w, const float* x, int count) {
  constexpr int lanes = 32;
  float sums[lanes] = {}, sum = 0;
  int i = 0;
  for (; i + lanes <= count; i += lanes)
    for (int j = 0; j < lanes; ++j) sums[j] += kvevict::to_float(kvevict::bfloat16{w[i + j]}) * x[i + j];
  for (; i < count; ++i) sum += kvevict::to_float(kvevict::bfloat16{w[i]}) * x[i];
  for (const float s : sums) sum += s;
  return sum;
}

/// Outputs [first, last) of some rows. Weights of 16 bits are converted a piece at a time, which stays in the cache.
void multiply_part(const float* x, int rows, const matrix& w, int first, int last, float* y) {
  const constant_map in(x, rows, w.inputs);
  map out(y, rows, w.outputs);
  if (!w.bf16) {
    const constant_map weights(static_cast<const float*>(w.data) + std::int64_t{first} * w.inputs, last - first,
                               w.inputs);
    if (rows == 1)
      out.row(0).segment(first, last - first).transpose().noalias() = weights * in.row(0).transpose();
    else
      out.middleCols(first, last - first).noalias() = in * weights.transpose();
    return;
  }
  const auto* const halves = static_cast<const std::uint16_t*>(w.data);
  if (rows == 1) {
    for (int o = first; o < last; ++o) y[o] = dot(halves + std::int64_t{o} * w.inputs, x, w.inputs);
    return;
  }
  constexpr int piece = 192;
  row_major weights(piece, w.inputs);
  for (int at = first; at < last; at += piece) {
    const int count = std::min(piece, last - at);
    convert(halves + std::int64_t{at} * w.inputs, std::int64_t{count} * w.inputs, weights.data());
    out.middleCols(at, count).noalias() = in * weights.topRows(count).transpose();
  }
}

}  // namespace

matrix::matrix(const file_tensor& t)
    : data(t.data),
      bf16(t.dtype == "BF16"),
      outputs(static_cast<int>(t.shape.at(0))),
      inputs(static_cast<int>(t.shape.at(1))) {
  if (t.dtype == "F16" || t.shape.size() != 2) throw file_error("a weight must be a matrix of F32 or BF16");
}

void matrix::row(int output, float* to) const {
  const std::int64_t at = std::int64_t{output} * inputs;
  if (bf16)
    convert(static_cast<const std::uint16_t*>(data) + at, inputs, to);
  else
    std::memcpy(to, static_cast<const float*>(data) + at, static_cast<std::size_t>(inputs) * sizeof(float));
}

void multiply(const float* x, int rows, const matrix& w, float* y) {
#pragma omp parallel
  {
    const std::int64_t threads = omp_get_num_threads(), thread = omp_get_thread_num();
    const auto share = [&](int whole, std::int64_t i) { return static_cast<int>(whole * i / threads); };
    if (rows < 8 * threads) {  // few rows: threads share the weights, else the rows
      multiply_part(x, rows, w, share(w.outputs, thread), share(w.outputs, thread + 1), y);
    } else {
      const int first = share(rows, thread), last = share(rows, thread + 1);
      multiply_part(x + std::int64_t{first} * w.inputs, last - first, w, 0, w.outputs,
                    y + std::int64_t{first} * w.outputs);
    }
  }
}
