// SPDX-License-Identifier: MIT
#pragma once

#include <capture_file.hpp>
#include <cstdio>
#include <cstdlib>
#include <kvevict/cpu.hpp>
#include <vector>

/// What several programs of the course need around a call: a capture as the library sees it, and memory of its own.

/// Ends the program with the sentence of a status that is not ok.
inline void require(const kvevict::status& s) {
  if (s.ok()) return;
  std::printf("%s: %s\n", s.argument, s.sentence);
  std::exit(1);
}

/// The slots first .. first + count - 1 of a captured layer as a cache, [kv_heads][slots][dims].
inline auto cache_of(layer_capture& c, kvevict::index_t count, kvevict::index_t first = 0) {
  using namespace kvevict;
  const strided keys = hnd(1, c.kv_heads, c.length, c.dim), values = hnd(1, c.kv_heads, c.length, c.value_dim);
  return cache{cache_shape{1, 1, c.kv_heads}, row_lengths{count}, entries{c.keys.data() + first * c.dim, keys, c.dim},
               entries{c.values.data() + first * c.value_dim, values, c.value_dim}};
}

/// The queries of the tokens first .. first + count - 1 of a captured layer.
inline auto queries_of(const layer_capture& c, kvevict::index_t first, kvevict::index_t count) {
  using namespace kvevict;
  return query_view{entries{c.queries.data() + first * c.dim, hnd(1, c.query_heads, c.rows, c.dim), c.dim},
                    c.query_heads, count};
}

/// A policy of nothing but a scorer and a budget rule: no slot is protected.
template <class Scorer, class Rule = kvevict::budget::uniform>
struct composed {
  Scorer what;
  Rule how;
  [[nodiscard]] auto scorer() const { return what; }
  [[nodiscard]] auto rule() const { return how; }
  [[nodiscard]] static kvevict::protect protection() { return {}; }
};
template <class Scorer, class Rule>
composed(Scorer, Rule) -> composed<Scorer, Rule>;

/// The scores of a cache by a policy, [row][slot].
template <class Policy, class Inputs>
std::vector<std::vector<float>> scores_of(const Policy& policy, const Inputs& in) {
  using namespace kvevict;
  const cache_shape shape = in.cache.shape();
  const auto rows = static_cast<index_t>(shape.rows());
  std::vector<offset_t> offsets{0};
  for (index_t r = 0; r < rows; ++r) offsets.push_back(offsets.back() + in.cache.length(shape.row(r)));
  std::vector<float> flat(static_cast<std::size_t>(offsets.back()));
  std::vector<cache_line> scratch(cache_lines(workspace_bytes(cpu{}, policy, in)));
  const ragged<float> out{flat.data(), offsets.data(), rows};
  require(score_rows(cpu{}, policy, in, out, workspace_of(scratch)));
  std::vector<std::vector<float>> result;
  for (index_t r = 0; r < rows; ++r) result.emplace_back(out[r].begin(), out[r].end());
  return result;
}

/// A selection with memory of its own.
struct evicted {
  std::vector<kvevict::index_t> slots;
  std::vector<kvevict::offset_t> offsets;

  evicted(kvevict::offset_t capacity, kvevict::offset_t rows)
      : slots(static_cast<std::size_t>(capacity)), offsets(static_cast<std::size_t>(rows) + 1) {}
  kvevict::selection view() { return {slots, offsets}; }
};

/// What a policy keeps of a cache.
template <class Policy, class Inputs>
evicted keep(const Policy& policy, const Inputs& in) {
  using namespace kvevict;
  evicted kept(selection_capacity(policy, in), in.cache.shape().rows());
  std::vector<cache_line> scratch(cache_lines(workspace_bytes(cpu{}, policy, in)));
  require(evict(cpu{}, policy, in, kept.view(), workspace_of(scratch)));
  return kept;
}

/// Nearly normal numbers, the same everywhere: sums of twelve uniform ones.
inline std::vector<float> normals(std::size_t count, std::uint64_t seed, float scale = 1) {
  std::vector<float> numbers(count);
  for (std::size_t i = 0; i < count; ++i) {
    float sum = -6;
    for (std::uint64_t u = 0; u < 12; ++u) sum += kvevict::score::uniform_number(seed, i, u);
    numbers[i] = scale * sum;
  }
  return numbers;
}
