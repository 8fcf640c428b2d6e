// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/core/status.hpp>
#include <kvevict/view/inputs.hpp>
#include <limits>

/// What can be wrong with a view, found before anything is read through it.
namespace kvevict {

/// Extents that are at least 1 and whose product is a row index.
[[nodiscard]] constexpr status check(const cache_shape& shape) {
  if (shape.layers < 1) return {status_code::bad_shape, "layers", "layers must be at least 1"};
  if (shape.seqs < 1) return {status_code::bad_shape, "seqs", "seqs must be at least 1"};
  if (shape.kv_heads < 1) return {status_code::bad_shape, "kv_heads", "kv_heads must be at least 1"};
  constexpr offset_t most = std::numeric_limits<index_t>::max() - 1;
  if (static_cast<offset_t>(shape.layers) * shape.seqs > most / shape.kv_heads)
    return {status_code::bad_shape, "shape", "layers * seqs * kv_heads must be below 2^31 - 1"};
  if (shape.first_layer < 0 || shape.first_layer > most - shape.layers ||
      (shape.model_layers != 0 && shape.model_layers < shape.first_layer + shape.layers))
    return {status_code::bad_shape, "first_layer", "first_layer + layers must lie inside the model's layers"};
  return {};
}

/// A layout whose tables can be read.
template <class Layout>
[[nodiscard]] constexpr status check_layout(const Layout& layout, const char* name) {
  if constexpr (requires { layout.offsets; })
    if (layout.offsets == nullptr) return {status_code::bad_pointer, name, "the layout's offsets are null"};
  if constexpr (requires { layout.block_table; }) {
    if (layout.block_table == nullptr) return {status_code::bad_pointer, name, "the layout's block table is null"};
    if (layout.block_size < 1 || layout.max_blocks < 1)
      return {status_code::bad_shape, name, "block_size and max_blocks must be at least 1"};
  }
  if constexpr (requires {
                  layout.base;
                  layout.order.check();
                }) {
    if (const status s = layout.order.check(); !s.ok()) return s;
    return check_layout(layout.base, name);
  }
  return {};
}

/// Entries that have memory, dims, and a layout that can be read.
template <entry_source Entries>
[[nodiscard]] constexpr status check(const Entries& entries, const char* name) {
  if (entries.null()) return {status_code::bad_pointer, name, "the data pointer is null"};
  if (entries.dims() < 1) return {status_code::bad_shape, name, "an entry must have at least one dim"};
  if (entries.dims() > most_dims)
    return {status_code::bad_shape, name, "an entry has more dims than kvevict::most_dims"};
  if constexpr (requires { entries.layout; }) return check_layout(entries.layout, name);
  return {};
}

/// Whether `length` slots fit where the layout says how many do.
template <entry_source Entries>
[[nodiscard]] constexpr bool has_room(const Entries& entries, const row_id& row, index_t length) {
  if constexpr (requires { entries.layout.capacity(row); })
    return length <= entries.layout.capacity(row);
  else
    return true;
}

namespace detail {

/// A cache with extents and memory; all that can be said without its lengths, which may lie on a device.
template <cache_view Cache>
[[nodiscard]] constexpr status check_entries(const Cache& cache) {
  if (const status s = check(cache.shape()); !s.ok()) return s;
  if (const status s = check(cache.keys(), "keys"); !s.ok()) return s;
  if constexpr (cache_with_values<Cache>) return check(cache.values(), "values");
  return {};
}

}  // namespace detail

/// A cache whose every row can be read.
template <cache_view Cache>
[[nodiscard]] constexpr status check(const Cache& cache) {
  if (const status s = detail::check_entries(cache); !s.ok()) return s;
  const cache_shape shape = cache.shape();
  for (row_id row; shape.has(row); row = shape.after(row)) {
    const index_t length = cache.length(row);
    if (length < 1) return {status_code::bad_shape, "length", "the length of a row must be at least one slot"};
    if (length > most_slots) return {status_code::bad_shape, "length", "a row has more slots than kvevict::most_slots"};
    bool fits = has_room(cache.keys(), row, length);
    if constexpr (cache_with_values<Cache>) fits = fits && has_room(cache.values(), row, length);
    if (!fits) return {status_code::bad_shape, "length", "the length of a row exceeds the capacity of its layout"};
    if constexpr (requires { cache.keys().layout.order; })
      if (const status s = cache.keys().layout.order.check(row, length); !s.ok()) return s;
  }
  return {};
}

namespace detail {

/// Whether what a call takes can be counted: extents, lengths and dims that a call accepts, wherever the memory is.
template <cache_view Cache>
[[nodiscard]] constexpr bool countable(const Cache& cache) {
  const cache_shape shape = cache.shape();
  if (!check(shape).ok() || cache.keys().dims() < 1 || cache.keys().dims() > most_dims) return false;
  for (row_id row; shape.has(row); row = shape.after(row))
    if (cache.length(row) < 1 || cache.length(row) > most_slots) return false;
  return true;
}

/// Slots of the longest row.
template <cache_view Cache>
[[nodiscard]] constexpr index_t longest_row_of(const Cache& cache) {
  const cache_shape shape = cache.shape();
  index_t longest = 0;
  for (row_id row; shape.has(row); row = shape.after(row)) longest = greatest(longest, cache.length(row));
  return longest;
}

}  // namespace detail

/// query_heads per kv_head; 1 where no input has query_heads. 0 says that the heads do not divide.
template <class Inputs>
[[nodiscard]] constexpr index_t group_size(const Inputs& in) {
  const index_t kv_heads = in.cache.shape().kv_heads;
  index_t query_heads = kv_heads;
  if constexpr (Inputs::template has<input_kind::queries>)
    query_heads = in.template get<input_kind::queries>().query_heads;
  else if constexpr (Inputs::template has<input_kind::attention>)
    query_heads = in.template get<input_kind::attention>().query_heads;
  return kv_heads >= 1 && query_heads >= kv_heads && query_heads % kv_heads == 0 ? query_heads / kv_heads : 0;
}

/// A cache that can be read, and inputs whose head counts fit it. What only one scorer reads, that scorer checks.
template <class Inputs>
[[nodiscard]] constexpr status check_inputs(const Inputs& in) {
  if (const status s = check(in.cache); !s.ok()) return s;
  if (group_size(in) < 1)
    return {status_code::bad_shape, "query_heads", "query_heads must be a positive multiple of kv_heads"};
  if constexpr (Inputs::template has<input_kind::queries> && Inputs::template has<input_kind::attention>)
    if (in.template get<input_kind::queries>().query_heads != in.template get<input_kind::attention>().query_heads)
      return {status_code::bad_shape, "query_heads", "queries and attention must have the same query_heads"};
  return {};
}

}  // namespace kvevict
