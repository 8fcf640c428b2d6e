// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <kvevict/view/entries.hpp>
#include <type_traits>
#include <utility>

namespace kvevict::detail {

/// The elements of one entry as floats; where the layout has a stride, the place of the first is computed once.
template <class Entries>
struct entry_elements {
  const Entries& of;
  const row_id& row;
  index_t slot;

  [[nodiscard]] KVEVICT_HOST_DEVICE float operator()(index_t dim) const { return of(row, slot, dim); }
};
template <class Entries>
requires requires(const Entries& e) {
  requires strided_dims<std::remove_cvref_t<decltype(e.layout)>>;
  e.reader(*e.at({}, 0, 0), row_id{}, 0, 0);
}
struct entry_elements<Entries> {
  const Entries& of;
  const row_id& row;
  index_t slot;
  decltype(std::declval<const Entries&>().at({}, 0, 0)) first = of.at(row, slot, 0);
  offset_t step = of.layout.dim_stride();

  [[nodiscard]] KVEVICT_HOST_DEVICE float operator()(index_t dim) const {
    return of.reader(first[dim * step], row, slot, dim);
  }
};

/// Four numbers that lie together in shared memory.
struct alignas(16) four_floats {
  float x[4];
};

/// Four dims from `dim` of an entry, zeros from `end` on; on the device in one access where they lie for it.
template <class Entries>
[[nodiscard]] KVEVICT_HOST_DEVICE four_floats four_dims(const entry_elements<Entries>& of, index_t dim, index_t end) {
  four_floats out{};
#if defined(__CUDA_ARCH__)
  if constexpr (requires { of.first; }) {
    using element = std::remove_cvref_t<decltype(*of.first)>;
    struct alignas(4 * sizeof(element)) together {
      element x[4];
    };
    const element* const first = of.first + dim;
    if (of.step == 1 && dim + 4 <= end && reinterpret_cast<std::uintptr_t>(first) % sizeof(together) == 0) {
      const together all = *reinterpret_cast<const together*>(first);
      KVEVICT_UNROLLED for (int e = 0; e < 4; ++e) out.x[e] = of.of.reader(all.x[e], of.row, of.slot, dim + e);
      return out;
    }
  }
#endif
  KVEVICT_UNROLLED for (int e = 0; e < 4; ++e) {
    if (dim + e < end) out.x[e] = of(dim + e);
  }
  return out;
}

}  // namespace kvevict::detail
