// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
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

/// Some dims from `dim` of an entry, in one access where they are more than one: the caller knows that they lie for it.
template <class Entries, std::size_t Dims>
KVEVICT_HOST_DEVICE void take_dims(const entry_elements<Entries>& of, index_t dim, float (&to)[Dims]) {
  if constexpr (Dims == 1) {
    to[0] = of(dim);
  } else {
    using element = std::remove_cvref_t<decltype(*of.first)>;
    struct alignas(Dims * sizeof(element)) together {
      element x[Dims];
    };
    const together all = *reinterpret_cast<const together*>(of.first + dim);
    KVEVICT_UNROLLED for (int e = 0; e < static_cast<int>(Dims); ++e) to[e] =
        of.of.reader(all.x[e], of.row, of.slot, dim + e);
  }
}

/// Four numbers that lie together in shared memory.
struct alignas(16) four_floats {
  float x[4];
};

/// Whether four dims from `dim` of an entry lie for one access, none of them at `end` or behind it.
template <class Entries>
[[nodiscard]] KVEVICT_HOST_DEVICE bool four_lie_together(const entry_elements<Entries>& of, index_t dim, index_t end) {
  if constexpr (requires { of.first; })
    return of.step == 1 && dim + 4 <= end &&
           reinterpret_cast<std::uintptr_t>(of.first + dim) % (4 * sizeof(*of.first)) == 0;
  else
    return false;
}

/// Four dims from `dim` of an entry, zeros from `end` on; in one access where they lie for it.
template <class Entries>
[[nodiscard]] KVEVICT_HOST_DEVICE four_floats four_dims(const entry_elements<Entries>& of, index_t dim, index_t end) {
  four_floats out{};
  if constexpr (requires { of.first; }) {
    if (four_lie_together(of, dim, end)) {
      take_dims(of, dim, out.x);
      return out;
    }
  }
  KVEVICT_UNROLLED for (int e = 0; e < 4; ++e) {
    if (dim + e < end) out.x[e] = of(dim + e);
  }
  return out;
}
/// The same of several entries, whose accesses wait together.
template <class Entries, std::size_t Count>
KVEVICT_HOST_DEVICE void four_dims(const entry_elements<Entries> (&of)[Count], index_t dim, index_t end,
                                   four_floats (&out)[Count]) {
  if constexpr (requires { of[0].first; }) {
    bool together = true;
    KVEVICT_UNROLLED for (std::size_t i = 0; i < Count; ++i) together = together && four_lie_together(of[i], dim, end);
    if (together) {
      KVEVICT_UNROLLED for (std::size_t i = 0; i < Count; ++i) take_dims(of[i], dim, out[i].x);
      return;
    }
  }
  KVEVICT_UNROLLED for (std::size_t i = 0; i < Count; ++i) out[i] = four_dims(of[i], dim, end);
}

}  // namespace kvevict::detail
