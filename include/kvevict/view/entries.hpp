// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>
#include <kvevict/core/blocks.hpp>
#include <kvevict/core/element.hpp>
#include <kvevict/view/layout.hpp>
#include <type_traits>
#include <utility>

namespace kvevict {

/// The usual way an element becomes a float: by its type alone.
///
/// A reader is the place for anything else, say a scaled 8-bit cache: a callable
/// `float operator()(Element e, const row_id& row, index_t slot, index_t dim) const` that holds the scales.
/// No scorer ever sees an element that is not a float.
struct plain_reader {
  template <class Element>
  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr float operator()(Element e, const row_id&, index_t, index_t) const {
    return to_float(e);
  }
};

/// All keys (or all values, or queries) of a call: base pointer, layout, reader and the dims of one entry.
///
/// @code
/// entries keys{pointer, hnd(seqs, kv_heads, capacity, head_dim), head_dim};
/// @endcode
template <class Element, cache_layout Layout, class Reader = plain_reader>
struct entries {
  using element_type = Element;

  Element* data = nullptr;
  Layout layout{};
  index_t dim_count = 0;
  Reader reader{};

  constexpr entries() = default;
  KVEVICT_HOST_DEVICE constexpr entries(Element* pointer, const Layout& order, index_t dims_of_entry,
                                        const Reader& to_number = {})
      : data(pointer), layout(order), dim_count(dims_of_entry), reader(to_number) {}

  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr index_t dims() const { return dim_count; }
  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr bool null() const { return data == nullptr; }

  /// The place of one element.
  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr Element* at(const row_id& row, index_t slot, index_t dim) const {
    return data + layout.offset(row, slot, dim);
  }
  /// One element as a float.
  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr float operator()(const row_id& row, index_t slot, index_t dim) const {
    return reader(*at(row, slot, dim), row, slot, dim);
  }
  /// One entry as floats: out[dims].
  KVEVICT_HOST_DEVICE constexpr void load(const row_id& row, index_t slot, float* out) const {
    if constexpr (strided_dims<Layout>) {
      const Element* first = at(row, slot, 0);
      const offset_t step = layout.dim_stride();
      if (step == 1) {  // a loop of its own, so that it vectorises
        each_in_blocks(dim_count, [&](index_t d) { out[d] = reader(first[d], row, slot, d); });
      } else {
        for (index_t d = 0; d < dim_count; ++d) out[d] = reader(first[d * step], row, slot, d);
      }
    } else {
      for (index_t d = 0; d < dim_count; ++d) out[d] = (*this)(row, slot, d);
    }
  }
};

/// What the library asks of keys, values and queries. `entries` models it, and so may a type of the engine's.
template <class E>
concept entry_source = std::is_trivially_copyable_v<E> &&
    requires(const E& e, const row_id& row, index_t i, float* out) {
  { e.dims() } -> std::convertible_to<index_t>;
  { e.null() } -> std::convertible_to<bool>;
  { e(row, i, i) } -> std::convertible_to<float>;
  e.load(row, i, out);
  *e.at(row, i, i);
};

/// The stored type of an element.
template <entry_source E>
using element_of = std::remove_cvref_t<decltype(*std::declval<const E&>().at({}, 0, 0))>;

/// Whether elements are read as what they are, and of that type: then memory may be read without the reader.
template <class E, class Element>
inline constexpr bool plain_elements = requires(const E& e) {
  requires std::same_as<element_of<E>, Element>;
  requires std::same_as<std::remove_cvref_t<decltype(e.reader)>, plain_reader>;
};

/// Whether the dims of every entry are adjacent in memory, as far as its layout says.
template <entry_source E>
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr bool dense_dims(const E& entries) {
  if constexpr (requires { entries.layout.dim_stride(); })
    return entries.layout.dim_stride() == 1;
  else
    return false;
}

}  // namespace kvevict
