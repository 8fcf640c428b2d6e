// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <kvevict/core/config.hpp>
#include <limits>
#include <type_traits>

namespace kvevict {

/// A slot, a head, a layer, a position: anything that is counted per row. 2^31 - 1 at most.
using index_t = std::int32_t;

/// Slots of a row, at most: below 2^31 by so much that loops over blocks of slots can count past the end of a row.
inline constexpr index_t most_slots = std::numeric_limits<index_t>::max() - 1023;

/// Dims of an entry, at most: so few that a block of entries is counted below 2^31, and more than any model has.
inline constexpr index_t most_dims = index_t{1} << 20;

/// A place in memory counted in elements, or a sum over rows: 32 layers of 128 k slots pass 2^31.
using offset_t = std::int64_t;

/// Pointer and element count. `std::span` would do on the host, but its accessors are not callable in device
/// code without a compiler flag that an engine may not set.
template <class T>
struct span {
  T* data = nullptr;
  offset_t count = 0;

  constexpr span() = default;
  KVEVICT_HOST_DEVICE constexpr span(T* pointer, offset_t size) : data(pointer), count(size) {}

  /// From anything contiguous: `std::vector`, `std::array`, `std::span`, another span.
  template <class Range>
  requires requires(Range& range) {
    static_cast<T*>(range.data());
    range.size();
  }
  constexpr span(Range&& range) : data(range.data()), count(static_cast<offset_t>(range.size())) {}

  KVEVICT_HOST_DEVICE constexpr T& operator[](offset_t i) const {
    KVEVICT_ASSERT(i >= 0 && i < count);
    return data[i];
  }
  KVEVICT_HOST_DEVICE constexpr T* begin() const { return data; }
  KVEVICT_HOST_DEVICE constexpr T* end() const { return data + count; }
  KVEVICT_HOST_DEVICE constexpr offset_t size() const { return count; }
  KVEVICT_HOST_DEVICE constexpr bool empty() const { return count == 0; }
};

/// The same bits as another type. `std::bit_cast` is not callable in device code.
template <class To, class From>
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr To bits_as(From x) {
  static_assert(sizeof(To) == sizeof(From) && std::is_trivially_copyable_v<To> && std::is_trivially_copyable_v<From>);
  return __builtin_bit_cast(To, x);
}

/// Smaller and larger of two; `std::min` is not callable in device code.
template <class T>
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr T least(T a, T b) {
  return b < a ? b : a;
}
template <class T>
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr T greatest(T a, T b) {
  return a < b ? b : a;
}

}  // namespace kvevict
