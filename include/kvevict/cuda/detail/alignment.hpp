// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <kvevict/view/flat.hpp>
#include <kvevict/view/paged.hpp>
#include <kvevict/view/reordered.hpp>
#include <kvevict/view/strided.hpp>

/// Where entries start, as far as pointer and strides tell, on the host, too: tables lie on the device.
namespace kvevict::detail {

/// Whether every entry starts at a multiple of n elements from the base pointer, as far as its strides tell.
template <class Layout>
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr bool at_multiples(const Layout&, offset_t n) {
  return n == 1;
}
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr bool at_multiples(const strided& l, offset_t n) {
  return l.layer % n == 0 && l.seq % n == 0 && l.head % n == 0 && l.slot % n == 0;
}
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr bool at_multiples(const flat& l, offset_t n) { return l.dims % n == 0; }
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr bool at_multiples(const paged& l, offset_t n) {
  return l.block % n == 0 && l.layer % n == 0 && l.head % n == 0 && l.slot % n == 0;
}
template <class Base>
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr bool at_multiples(const reordered<Base>& l, offset_t n) {
  return at_multiples(l.base, n);
}

/// Whether entries can be moved n elements at a time.
template <class Entries>
[[nodiscard]] KVEVICT_HOST_DEVICE bool in_pieces_of(const Entries& entries, offset_t n) {
  if constexpr (requires {
                  entries.layout;
                  entries.data;
                }) {
    const auto bytes = static_cast<std::uintptr_t>(n) * sizeof(*entries.data);
    return entries.dims() % n == 0 && at_multiples(entries.layout, n) &&
           reinterpret_cast<std::uintptr_t>(entries.data) % bytes == 0;
  } else {
    return n == 1;
  }
}

}  // namespace kvevict::detail
