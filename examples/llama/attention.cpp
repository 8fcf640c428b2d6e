// SPDX-License-Identifier: MIT
#include "attention.hpp"

#include <omp.h>

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <limits>

namespace {

using row_major = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using constant_map = Eigen::Map<const row_major>;

constexpr int tile_tokens = 64, block_slots = 256;
constexpr float nothing = -std::numeric_limits<float>::infinity();

/// Attention over some of the slots: values weighted by exp(logit - peak), and the sum of the weights.
struct partial {
  Eigen::ArrayXf peak, sum;
  row_major out;

  partial(int rows, int dims)
      : peak(Eigen::ArrayXf::Constant(rows, nothing)),
        sum(Eigen::ArrayXf::Zero(rows)),
        out(row_major::Zero(rows, dims)) {}

  /// One block: `logits` become weights. Rows see the first `visible(row)` columns.
  template <class Visible>
  void add(row_major& logits, const constant_map& values, const Visible& visible) {
    for (int r = 0; r < logits.rows(); ++r) {
      const int seen = std::clamp(visible(r), 0, static_cast<int>(logits.cols()));
      auto row = logits.row(r).array();
      row.tail(logits.cols() - seen) = 0;
      if (seen == 0) continue;
      auto weights = row.head(seen);
      const float before = peak(r), now = std::max(before, weights.maxCoeff());
      weights = (weights - now).exp();
      const float scale = std::exp(before - now);
      peak(r) = now;
      sum(r) = sum(r) * scale + weights.sum();
      out.row(r) *= scale;
    }
    if (logits.rows() <= 8)  // a product of so few rows is a sum over the slots, and reads the values as they lie
      for (int r = 0; r < logits.rows(); ++r) out.row(r).noalias() += logits.row(r) * values;
    else
      out.noalias() += logits * values;
  }
  /// Takes what another part of the slots gave.
  void join(const partial& other) {
    const Eigen::ArrayXf now = peak.max(other.peak);
    const Eigen::ArrayXf mine = (now == nothing).select(0, (peak - now).exp()),
                         theirs = (now == nothing).select(0, (other.peak - now).exp());
    sum = sum * mine + other.sum * theirs;
    out.array() = out.array().colwise() * mine + other.out.array().colwise() * theirs;
    peak = now;
  }
};

}  // namespace

void attend(const float* queries, int tokens, int query_heads, const kv_memory& cache, int layer, float* out,
            float* log_sum_exp) {
  const int dims = cache.dims(), kv_heads = cache.kv_heads(), group = query_heads / kv_heads;
  const int tiles = (tokens + tile_tokens - 1) / tile_tokens;
  const int longest = *std::max_element(cache.lengths(layer), cache.lengths(layer) + kv_heads);
  const int wanted = 4 * omp_get_max_threads() / (tiles * kv_heads);
  const int parts = std::clamp(wanted, 1, (longest + block_slots - 1) / block_slots);
  const float scale = 1 / std::sqrt(static_cast<float>(dims));

  std::vector<std::vector<partial>> found(static_cast<std::size_t>(tiles * kv_heads));
  for (auto& of_tile : found) of_tile.resize(static_cast<std::size_t>(parts), partial(0, 0));
#pragma omp parallel for collapse(3) schedule(dynamic)
  for (int tile = tiles - 1; tile >= 0; --tile)  // the last ones see most
    for (int head = 0; head < kv_heads; ++head)
      for (int part = 0; part < parts; ++part) {
        const int first = tile * tile_tokens, count = std::min(tile_tokens, tokens - first), rows = count * group;
        const int length = cache.lengths(layer)[head];
        row_major q(rows, dims), logits;
        for (int r = 0; r < rows; ++r)
          q.row(r) =
              scale *
              Eigen::Map<const Eigen::RowVectorXf>(
                  queries + (std::int64_t{first + r / group} * query_heads + head * group + r % group) * dims, dims);
        partial sums(rows, dims);
        const int seen = length - tokens + first + count;  // by the last token of the tile
        const int blocks = (seen + block_slots - 1) / block_slots;
        for (int block = blocks * part / parts; block < blocks * (part + 1) / parts; ++block) {
          const int from = block * block_slots, size = std::min(block_slots, seen - from);
          const constant_map k(cache.keys(layer, head) + std::int64_t{from} * dims, size, dims);
          const constant_map v(cache.values(layer, head) + std::int64_t{from} * dims, size, dims);
          logits.resize(rows, size);
          if (rows <= 8)
            for (int r = 0; r < rows; ++r) logits.row(r).transpose().noalias() = k * q.row(r).transpose();
          else
            logits.noalias() = q * k.transpose();
          sums.add(logits, v, [&](int r) { return length - tokens + first + r / group + 1 - from; });
        }
        found[static_cast<std::size_t>(tile * kv_heads + head)][static_cast<std::size_t>(part)] = std::move(sums);
      }
#pragma omp parallel for collapse(2)
  for (int tile = 0; tile < tiles; ++tile)
    for (int head = 0; head < kv_heads; ++head) {
      auto& of_parts = found[static_cast<std::size_t>(tile * kv_heads + head)];
      partial& all = of_parts.front();
      for (std::size_t p = 1; p < of_parts.size(); ++p) all.join(of_parts[p]);
      for (int r = 0; r < all.sum.size(); ++r) {
        const int token = tile * tile_tokens + r / group, query_head = head * group + r % group;
        Eigen::Map<Eigen::RowVectorXf>(out + (std::int64_t{token} * query_heads + query_head) * dims, dims) =
            all.out.row(r) / all.sum(r);
        log_sum_exp[std::int64_t{query_head} * tokens + token] = all.peak(r) + std::log(all.sum(r));
      }
    }
}
