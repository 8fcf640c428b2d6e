// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>
#include <kvevict/core/shape.hpp>
#include <type_traits>

namespace kvevict {

/// Where an element lies: (row, slot, dim) -> offset in elements from the base pointer.
///
/// A layout is a trivially copyable value with one member function,
///
///     offset_t offset(const row_id& row, index_t slot, index_t dim) const
///
/// so an engine's own order is one struct in the engine's own code:
///
/// @code
/// struct slots_last {  // [kv_heads][dims][slots]
///   index_t dims, room;
///   offset_t offset(const row_id& row, index_t slot, index_t dim) const {
///     return (static_cast<offset_t>(row.kv_head) * dims + dim) * room + slot;
///   }
///   offset_t dim_stride() const { return room; }
/// };
/// static_assert(strided_dims<slots_last>);
/// @endcode
///
/// If all dims of an entry are equally spaced,
/// `offset_t dim_stride() const` says so and makes reading and moving entries fast.
template <class L>
concept cache_layout = std::is_trivially_copyable_v<L> && requires(const L& layout, const row_id& row, index_t i) {
  { layout.offset(row, i, i) } -> std::same_as<offset_t>;
};

/// A layout whose dims are equally spaced.
template <class L>
concept strided_dims = cache_layout<L> && requires(const L& layout) {
  { layout.dim_stride() } -> std::same_as<offset_t>;
};

}  // namespace kvevict
