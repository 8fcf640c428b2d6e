// SPDX-License-Identifier: MIT
#pragma once

#include <sys/mman.h>

#include "storage.hpp"

/// Memory of any size of which only the pages that are touched exist: caches whose elements lie past 2^31 and 2^32.
namespace host {

template <class T>
class sparse {
 public:
  explicit sparse(offset_t count) : bytes_(static_cast<std::size_t>(count) * sizeof(T)) {
    void* at = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) throw std::runtime_error("no address space for a sparse mapping");
    data_ = static_cast<T*>(at);
  }
  sparse(sparse&& from) noexcept : bytes_(from.bytes_), data_(std::exchange(from.data_, nullptr)) {}
  sparse& operator=(sparse&&) = delete;
  ~sparse() {
    if (data_ != nullptr) ::munmap(data_, bytes_);
  }
  [[nodiscard]] T* data() const { return data_; }
  [[nodiscard]] std::size_t size() const { return bytes_ / sizeof(T); }

 private:
  std::size_t bytes_;
  T* data_;
};

/// A content in sparse memory, in layouts whose tables are sparse as well where they must be.
template <class E, class Layout>
struct giant {
  std::string name;
  kvevict::cache_shape shape;
  std::vector<index_t> lengths;
  Layout key_layout, value_layout;
  index_t dim, value_dim;
  sparse<E> keys, values;
  sparse<index_t> table{1};
  std::vector<offset_t> offsets{};

  [[nodiscard]] auto cache() {
    return kvevict::cache{shape, lengths.data(), kvevict::entries{keys.data(), key_layout, dim},
                          kvevict::entries{values.data(), value_layout, value_dim}};
  }
  /// The farthest element of the cache.
  [[nodiscard]] offset_t farthest() {
    offset_t most = 0;
    for (index_t r = 0; r < shape.rows(); ++r)
      most = std::max(most, key_layout.offset(shape.row(r), lengths[std::size_t(r)] - 1, dim - 1));
    return most;
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

/// The presets with a capacity of 2^26 slots: two layers of two sequences of two heads of 16 dims pass 2^32 elements.
template <class E>
auto giant_in_strides(const content<E>& c, const char* name,
                      kvevict::strided (*order)(index_t, index_t, index_t, index_t)) {
  constexpr index_t room = 1 << 26;
  const auto& s = c.shape;
  giant<E, kvevict::strided> out{name,
                                 s,
                                 c.lengths,
                                 order(s.seqs, s.kv_heads, room, c.dim),
                                 order(s.seqs, s.kv_heads, room, c.value_dim),
                                 c.dim,
                                 c.value_dim,
                                 sparse<E>(s.rows() * room * c.dim),
                                 sparse<E>(s.rows() * room * c.value_dim)};
  out.fill(c);
  return out;
}
/// Slots that are 2^26 elements apart: one row alone passes 2^31.
template <class E>
auto giant_slots(const content<E>& c) {
  const auto& s = c.shape;
  kvevict::strided order = kvevict::nhd(s.seqs, s.kv_heads, c.most, 1 << 25);
  giant<E, kvevict::strided> out{"slots far apart",
                                 s,
                                 c.lengths,
                                 order,
                                 order,
                                 c.dim,
                                 c.value_dim,
                                 sparse<E>(s.rows() * c.most * (1 << 25)),
                                 sparse<E>(s.rows() * c.most * (1 << 25))};
  out.fill(c);
  return out;
}
template <class E>
auto giant_flat(const content<E>& c) {
  constexpr offset_t room = 1 << 26;
  giant<E, kvevict::flat> out{"flat",
                              c.shape,
                              c.lengths,
                              {},
                              {},
                              c.dim,
                              c.value_dim,
                              sparse<E>(c.shape.rows() * room * c.dim),
                              sparse<E>(c.shape.rows() * room * c.value_dim)};
  for (index_t r = 0; r <= c.shape.rows(); ++r) out.offsets.push_back(r * room);
  out.key_layout = {out.offsets.data(), c.dim};
  out.value_layout = {out.offsets.data(), c.value_dim};
  out.fill(c);
  return out;
}
/// Block tables of 2^30 blocks a row, block ids up to 2^27, blocks of 4 slots: the place in the table, the capacity of
/// a row and the elements all pass 2^32.
template <class E>
auto giant_pages(const content<E>& c, page_order order) {
  constexpr index_t blocks = 1 << 30, block_size = 4;
  const auto& s = c.shape;
  const index_t pool = order == page_order::per_row ? 1 << 27 : 1 << 26;
  const index_t tables = order == page_order::per_row ? index_t(s.rows()) : s.seqs;
  const index_t heads = order == page_order::per_row ? 1 : s.kv_heads, layers = order == page_order::per_row ? 1 : 2;
  const offset_t slots_of_all = offset_t{pool} * block_size * heads * layers;
  giant<E, kvevict::paged> out{"pages",
                               s,
                               c.lengths,
                               {},
                               {},
                               c.dim,
                               c.value_dim,
                               sparse<E>(slots_of_all * c.dim),
                               sparse<E>(slots_of_all * c.value_dim),
                               sparse<index_t>(offset_t{tables} * blocks)};
  const auto layout = [&](index_t dims) {
    if (order == page_order::per_row) return kvevict::paged_per_row(out.table.data(), blocks, block_size, dims);
    return kvevict::paged_hnd(out.table.data(), blocks, block_size, heads, dims, pool);
  };
  out.key_layout = layout(c.dim);
  out.value_layout = layout(c.value_dim);
  index_t next = pool;
  for (offset_t t = 0; t < tables; ++t)
    for (index_t b = 0; b <= c.most / block_size + 2; ++b) out.table.data()[t * blocks + b] = next -= 3;
  out.fill(c);
  return out;
}

}  // namespace host
