// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>
#include <kvevict/core/shape.hpp>
#include <kvevict/view/entries.hpp>
#include <type_traits>

namespace kvevict {

/// How an engine's KV cache is seen: nothing owned, nothing copied, a trivially copyable value.
///
///     cache_shape shape() const               layers, seqs, kv_heads of the call
///     index_t length(const row_id&) const     occupied slots of a row
///     keys() const                            an entry_source, dims() = head_dim
///     values() const                          optional: an entry_source, dims() = value_dim
///
/// `cache` below is a ready-made one; an engine's own type with these members is as good. Keys and values may
/// differ in layout, element type and width; a cache without values, and one latent kv_head, are legal.
template <class C>
concept cache_view = std::is_trivially_copyable_v<C> && requires(const C& c, const row_id& row) {
  { c.shape() } -> std::convertible_to<cache_shape>;
  { c.length(row) } -> std::convertible_to<index_t>;
  requires entry_source<std::remove_cvref_t<decltype(c.keys())>>;
};

template <class C>
concept cache_with_values = cache_view<C> && requires(const C& c) {
  requires entry_source<std::remove_cvref_t<decltype(c.values())>>;
};

/// Occupied slots per row: an array [rows], or one number for all rows. An array that is null gives lengths that every
/// call refuses.
struct row_lengths {
  const index_t* each = nullptr;
  index_t all = 0;

  constexpr row_lengths(index_t same_for_all) : all(same_for_all) {}
  constexpr row_lengths(const index_t* per_row) : each(per_row), all(-1) {}

  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr index_t operator[](index_t row) const {
    return each != nullptr ? each[row] : all;
  }
};

/// Keys and values with their lengths.
template <entry_source Keys, entry_source Values>
struct cache {
  cache_shape extents;
  row_lengths lengths;
  Keys key_entries;
  Values value_entries;

  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr cache_shape shape() const { return extents; }
  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr index_t length(const row_id& row) const { return lengths[row.index]; }
  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr const Keys& keys() const { return key_entries; }
  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr const Values& values() const { return value_entries; }
};
template <class Keys, class Values>
cache(cache_shape, row_lengths, Keys, Values) -> cache<Keys, Values>;
template <class Keys, class Values>
cache(cache_shape, index_t, Keys, Values) -> cache<Keys, Values>;
template <class Keys, class Values>
cache(cache_shape, const index_t*, Keys, Values) -> cache<Keys, Values>;
template <class Keys, class Values>
cache(cache_shape, index_t*, Keys, Values) -> cache<Keys, Values>;

/// Keys alone, for scorers that need nothing else.
template <entry_source Keys>
struct key_cache {
  cache_shape extents;
  row_lengths lengths;
  Keys key_entries;

  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr cache_shape shape() const { return extents; }
  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr index_t length(const row_id& row) const { return lengths[row.index]; }
  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr const Keys& keys() const { return key_entries; }
};
template <class Keys>
key_cache(cache_shape, row_lengths, Keys) -> key_cache<Keys>;
template <class Keys>
key_cache(cache_shape, index_t, Keys) -> key_cache<Keys>;
template <class Keys>
key_cache(cache_shape, const index_t*, Keys) -> key_cache<Keys>;
template <class Keys>
key_cache(cache_shape, index_t*, Keys) -> key_cache<Keys>;

namespace detail {

/// Bytes of one slot: key and value.
template <class Cache>
[[nodiscard]] offset_t entry_bytes(const Cache& cache) {
  const auto bytes = [](const auto& e) { return static_cast<offset_t>(sizeof(*e.at({}, 0, 0))) * e.dims(); };
  if constexpr (cache_with_values<Cache>)
    return bytes(cache.keys()) + bytes(cache.values());
  else
    return bytes(cache.keys());
}

}  // namespace detail

}  // namespace kvevict
