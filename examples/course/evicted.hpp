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
