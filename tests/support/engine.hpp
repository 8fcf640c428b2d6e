// SPDX-License-Identifier: MIT
#pragma once

#include "storage.hpp"

/// An engine's own cache, as its authors would show it to the library: vLLM's order, in which the dims of a key are
/// split so that a GPU thread reads 16 bytes of one slot, and the slots of a value are adjacent. Every layer is a
/// tensor of its own; the offsets of the tensors from the first stand in an array.
namespace engine {

using kvevict::index_t;
using kvevict::offset_t;

struct pages {
  const index_t* block_table = nullptr;  ///< [seqs][max_blocks]
  const offset_t* layer_start = nullptr;
  index_t max_blocks = 0, block_size = 0, heads = 0, dims = 0;

  [[nodiscard]] offset_t block(const kvevict::row_id& row, index_t slot) const {
    return block_table[row.seq * max_blocks + slot / block_size];
  }
};

/// [blocks][heads][dims / x][block_size][x]
template <index_t x>
struct key_order : pages {
  [[nodiscard]] offset_t offset(const kvevict::row_id& row, index_t slot, index_t dim) const {
    const offset_t head = block(row, slot) * heads + row.kv_head;
    return layer_start[row.layer] + ((head * (dims / x) + dim / x) * block_size + slot % block_size) * x + dim % x;
  }
};

/// [blocks][heads][dims][block_size]
struct value_order : pages {
  [[nodiscard]] offset_t offset(const kvevict::row_id& row, index_t slot, index_t dim) const {
    const offset_t head = block(row, slot) * heads + row.kv_head;
    return layer_start[row.layer] + (head * dims + dim) * block_size + slot % block_size;
  }
};

/// The engine's own view type: not kvevict::cache, no base class, four members.
template <class E>
struct cache_handle {
  static constexpr index_t x = 16 / index_t{sizeof(E)};
  kvevict::cache_shape model;
  const index_t* tokens;  ///< [seqs]
  kvevict::entries<E, key_order<x>> k;
  kvevict::entries<E, value_order> v;

  [[nodiscard]] kvevict::cache_shape shape() const { return model; }
  [[nodiscard]] index_t length(const kvevict::row_id& row) const { return tokens[row.seq]; }
  [[nodiscard]] const auto& keys() const { return k; }
  [[nodiscard]] const auto& values() const { return v; }
};

/// The engine: memory, and its content.
template <class E>
struct instance {
  std::string name = "vLLM split-K";
  host::content<E> const* of;
  std::vector<index_t> tokens, table;
  std::vector<offset_t> key_start, value_start;
  std::vector<E> keys, values;
  index_t blocks, block_size;

  explicit instance(const host::content<E>& c, index_t slots_per_block = 4)
      : of(&c), blocks((c.most + slots_per_block - 1) / slots_per_block), block_size(slots_per_block) {
    const index_t pool = c.shape.seqs * blocks + 3;
    table = host::scattered(c.shape.seqs * blocks, pool);
    for (index_t s = 0; s < c.shape.seqs; ++s) tokens.push_back(c.lengths[std::size_t(s * c.shape.kv_heads)]);
    const offset_t tensor = offset_t{pool} * block_size * c.shape.kv_heads;
    for (index_t l = c.shape.layers - 1; l >= 0; --l) {  // later layers lie before earlier ones
      key_start.push_back(l * tensor * c.dim);
      value_start.push_back(l * tensor * c.value_dim);
    }
    keys = host::poisoned<E>(c.shape.layers * tensor * c.dim);
    values = host::poisoned<E>(c.shape.layers * tensor * c.value_dim);
    const auto view = cache();
    for (index_t r = 0; r < c.shape.rows(); ++r)
      for (index_t s = 0; s < c.lengths[std::size_t(r)]; ++s) {
        for (index_t d = 0; d < c.dim; ++d)
          *view.k.at(c.shape.row(r), s, d) = c.keys[std::size_t(r)][std::size_t(s * c.dim + d)];
        for (index_t d = 0; d < c.value_dim; ++d)
          *view.v.at(c.shape.row(r), s, d) = c.values[std::size_t(r)][std::size_t(s * c.value_dim + d)];
      }
  }
  [[nodiscard]] cache_handle<E> cache() {
    const auto order = [&](const std::vector<offset_t>& start, index_t dims) {
      return pages{table.data(), start.data(), blocks, block_size, of->shape.kv_heads, dims};
    };
    return {of->shape,
            tokens.data(),
            {keys.data(), {order(key_start, of->dim)}, of->dim},
            {values.data(), {order(value_start, of->value_dim)}, of->value_dim}};
  }
};

}  // namespace engine
