// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstring>
#include <kvevict/kvevict.hpp>
#include <numeric>
#include <random>
#include <string>
#include <vector>

/// One content, stored in every layout: what all views must agree on.
namespace host {

using kvevict::index_t;
using kvevict::offset_t;

inline std::vector<float> normal(std::size_t count, unsigned seed, float scale = 1) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> distribution(0, scale);
  std::vector<float> out(count);
  for (float& x : out) x = distribution(generator);
  return out;
}

template <class E>
[[nodiscard]] E element(float x) {
  if constexpr (std::is_same_v<E, kvevict::half>)
    return kvevict::to_half(x);
  else if constexpr (std::is_same_v<E, kvevict::bfloat16>)
    return kvevict::to_bfloat16(x);
  else
    return x;
}

/// Memory whose every element is NaN until it is written, so that reading what no slot holds shows in the scores.
template <class E>
[[nodiscard]] std::vector<E> poisoned(offset_t count) {
  std::vector<E> memory(static_cast<std::size_t>(count));
  std::memset(static_cast<void*>(memory.data()), 0xff, memory.size() * sizeof(E));
  return memory;
}

template <class E>
[[nodiscard]] bool same_bits(const E& a, const E& b) {
  return std::memcmp(&a, &b, sizeof(E)) == 0;
}

/// Keys and values as [row][slot * dims + dim], with what is passed beside them.
template <class E>
struct content {
  kvevict::cache_shape shape;
  std::vector<index_t> lengths;  ///< [rows]
  index_t dim, value_dim, group;
  std::vector<std::vector<E>> keys, values;
  std::vector<E> queries;           ///< all rows of every sequence, poisoned after its last
  std::vector<index_t> query_rows;  ///< [layers * seqs]
  index_t most = 0;

  content(const kvevict::cache_shape& s, std::vector<index_t> length_of_seq, index_t d, index_t dv, index_t g,
          unsigned seed = 1)
      : shape(s), dim(d), value_dim(dv), group(g) {
    for (index_t r = 0; r < shape.rows(); ++r) lengths.push_back(length_of_seq[std::size_t(shape.row(r).seq)]);
    most = *std::max_element(lengths.begin(), lengths.end());
    const auto fill = [&](std::vector<E>& to, index_t count) {
      for (const float x : normal(std::size_t(count), seed++, 1.2F)) to.push_back(element<E>(x));
    };
    for (const index_t n : lengths) {
      fill(keys.emplace_back(), n * dim);
      fill(values.emplace_back(), n * value_dim);
    }
    queries = poisoned<E>(offset_t{shape.layers} * shape.seqs * shape.kv_heads * group * most * dim);
    const kvevict::strided order = query_layout();
    for (index_t r = 0; r < shape.rows(); r += shape.kv_heads) {
      const index_t rows = lengths[std::size_t(r)];
      query_rows.push_back(rows);
      for (index_t q = 0; q < shape.kv_heads * group; ++q) {
        kvevict::row_id row = shape.row(r);
        row.kv_head = q;
        const std::vector<float> x = normal(std::size_t(rows * dim), seed++, 1.2F);
        for (index_t i = 0; i < rows * dim; ++i)
          queries[std::size_t(order.offset(row, i / dim, i % dim))] = element<E>(x[std::size_t(i)]);
      }
    }
  }
  [[nodiscard]] kvevict::strided query_layout() const {
    return kvevict::hnd(shape.seqs, shape.kv_heads * group, most, dim);
  }
  [[nodiscard]] auto query_rows_view() const {
    return kvevict::query_view{kvevict::entries{queries.data(), query_layout(), dim}, shape.kv_heads * group,
                               query_rows.data()};
  }
};

/// Whether slot `to` of row r of a cache holds, bit for bit, the key and value of slot `from` of the content's row.
template <class E, class Cache>
[[nodiscard]] bool same_entry(const content<E>& c, index_t r, index_t from, const Cache& cache, index_t to) {
  const kvevict::row_id row = c.shape.row(r);
  const auto same = [&](const auto& entries, const std::vector<E>& expected, index_t dims) {
    for (index_t d = 0; d < dims; ++d)
      if (!same_bits<E>(*entries.at(row, to, d), expected[std::size_t(from) * std::size_t(dims) + std::size_t(d)]))
        return false;
    return true;
  };
  return same(cache.keys(), c.keys[std::size_t(r)], c.dim) &&
         same(cache.values(), c.values[std::size_t(r)], c.value_dim);
}

/// A content in memory: the vectors own, the layouts point into them (moving a vector keeps its memory in place).
template <class E, class KeyLayout, class ValueLayout>
struct stored {
  std::string name;
  kvevict::cache_shape shape;
  std::vector<index_t> lengths, table;
  std::vector<offset_t> offsets;
  std::vector<E> keys, values;
  KeyLayout key_layout;
  ValueLayout value_layout;
  index_t dim, value_dim;

  [[nodiscard]] auto cache() {
    return kvevict::cache{shape, lengths.data(), kvevict::entries{keys.data(), key_layout, dim},
                          kvevict::entries{values.data(), value_layout, value_dim}};
  }
  void fill(const content<E>& from) {
    for (index_t r = 0; r < shape.rows(); ++r)
      for (index_t s = 0; s < lengths[std::size_t(r)]; ++s) {
        for (index_t d = 0; d < dim; ++d)
          *cache().keys().at(shape.row(r), s, d) = from.keys[std::size_t(r)][std::size_t(s * dim + d)];
        for (index_t d = 0; d < value_dim; ++d)
          *cache().values().at(shape.row(r), s, d) = from.values[std::size_t(r)][std::size_t(s * value_dim + d)];
      }
  }
};

/// Ids in an order that is not ascending.
inline std::vector<index_t> scattered(index_t count, index_t pool) {
  std::vector<index_t> ids(static_cast<std::size_t>(pool));
  std::iota(ids.begin(), ids.end(), 0);
  std::shuffle(ids.begin(), ids.end(), std::mt19937(5));
  ids.resize(static_cast<std::size_t>(count));
  return ids;
}

template <class E>
auto in_strides(const content<E>& c, const char* name, kvevict::strided (*order)(index_t, index_t, index_t, index_t)) {
  const auto& s = c.shape;
  const index_t room = c.most + 3;
  stored<E, kvevict::strided, kvevict::strided> out{name,
                                                    s,
                                                    c.lengths,
                                                    {},
                                                    {},
                                                    poisoned<E>(s.rows() * room * c.dim),
                                                    poisoned<E>(s.rows() * room * c.value_dim),
                                                    order(s.seqs, s.kv_heads, room, c.dim),
                                                    order(s.seqs, s.kv_heads, room, c.value_dim),
                                                    c.dim,
                                                    c.value_dim};
  out.fill(c);
  return out;
}
/// The dims of a key apart by the slots (keys transposed, as some CPU engines hold them), values head-major.
template <class E>
auto with_transposed_keys(const content<E>& c) {
  auto out = in_strides(c, "transposed keys", kvevict::hnd);
  const index_t room = c.most + 3;
  out.key_layout.slot = 1;
  out.key_layout.dim = room;
  out.keys = poisoned<E>(offset_t(out.keys.size()));
  out.fill(c);
  return out;
}
template <class E>
auto in_flat(const content<E>& c, index_t slack = 2) {
  std::vector<offset_t> offsets{0};
  for (const index_t n : c.lengths) offsets.push_back(offsets.back() + n + slack);
  stored<E, kvevict::flat, kvevict::flat> out{"flat",
                                              c.shape,
                                              c.lengths,
                                              {},
                                              offsets,
                                              poisoned<E>(offsets.back() * c.dim),
                                              poisoned<E>(offsets.back() * c.value_dim),
                                              {},
                                              {},
                                              c.dim,
                                              c.value_dim};
  out.key_layout = {out.offsets.data(), c.dim};
  out.value_layout = {out.offsets.data(), c.value_dim};
  out.fill(c);
  return out;
}
/// Head-major memory whose slots lie in any order, seen in token order.
template <class E>
struct in_any_order {
  std::string name = "token order";
  stored<E, kvevict::strided, kvevict::strided> memory;
  std::vector<E>& keys;
  std::vector<index_t> places;
  index_t room;

  explicit in_any_order(const content<E>& c)
      : memory(in_strides(c, "", kvevict::hnd)), keys(memory.keys), room(c.most + 3) {
    for (const index_t n : c.lengths) {
      std::vector<index_t> p = scattered(n, n);
      p.resize(std::size_t(room), -1);
      places.insert(places.end(), p.begin(), p.end());
    }
    memory.keys = poisoned<E>(offset_t(memory.keys.size()));
    memory.values = poisoned<E>(offset_t(memory.values.size()));
    const auto view = cache();
    for (index_t r = 0; r < c.shape.rows(); ++r)
      for (index_t s = 0; s < c.lengths[std::size_t(r)]; ++s) {
        const kvevict::row_id row = c.shape.row(r);
        std::memcpy(view.keys().at(row, s, 0), c.keys[std::size_t(r)].data() + s * c.dim,
                    std::size_t(c.dim) * sizeof(E));
        std::memcpy(view.values().at(row, s, 0), c.values[std::size_t(r)].data() + s * c.value_dim,
                    std::size_t(c.value_dim) * sizeof(E));
      }
  }
  in_any_order(const in_any_order& o) : memory(o.memory), keys(memory.keys), places(o.places), room(o.room) {}
  [[nodiscard]] auto physical() { return memory.cache(); }
  [[nodiscard]] kvevict::token_order order() {
    return {places.data(), kvevict::hnd(memory.shape.seqs, memory.shape.kv_heads, room, 1)};
  }
  [[nodiscard]] auto cache() { return kvevict::in_token_order(physical(), order()); }
};

enum class page_order { nhd, hnd, per_layer, per_row };
template <class E>
auto in_pages(const content<E>& c, page_order order, index_t block_size = 5) {
  const auto& s = c.shape;
  const index_t blocks = (c.most + block_size - 1) / block_size;
  const bool own = order == page_order::per_row, by_layer = order == page_order::per_layer;
  const index_t tables = own ? index_t(s.rows()) : by_layer ? s.layers * s.seqs : s.seqs, pool = tables * blocks + 2;
  const offset_t entries = offset_t{pool} * block_size * (own ? 1 : by_layer ? s.kv_heads : s.layers * s.kv_heads);
  stored<E, kvevict::paged, kvevict::paged> out{own                        ? "paged per row"
                                                : by_layer                 ? "paged per layer"
                                                : order == page_order::nhd ? "paged nhd"
                                                                           : "paged hnd",
                                                s,
                                                c.lengths,
                                                scattered(tables * blocks, pool),
                                                {},
                                                poisoned<E>(entries * c.dim),
                                                poisoned<E>(entries * c.value_dim),
                                                {},
                                                {},
                                                c.dim,
                                                c.value_dim};
  const auto layout = [&](index_t dims) {
    const index_t* table = out.table.data();
    if (own) return kvevict::paged_per_row(table, blocks, block_size, dims);
    if (by_layer) return kvevict::paged_per_layer(table, blocks, block_size, s.kv_heads, dims, s.seqs);
    return order == page_order::nhd ? kvevict::paged_nhd(table, blocks, block_size, s.kv_heads, dims, pool)
                                    : kvevict::paged_hnd(table, blocks, block_size, s.kv_heads, dims, pool);
  };
  out.key_layout = layout(c.dim);
  out.value_layout = layout(c.value_dim);
  out.fill(c);
  return out;
}

}  // namespace host
