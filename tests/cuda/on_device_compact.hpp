// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <string>

#include "../support/stored.hpp"

/// What the two compilers share of the tests of compaction: on_device_compact.cpp knows which bytes must come out,
/// on_device_compact.cu runs the device.
namespace on_device {

using kvevict::index_t;
using kvevict::offset_t;

/// Which slots of each row stay.
struct kept_slots {
  std::vector<offset_t> offsets;
  std::vector<index_t> slots;
};

/// Side arrays whose elements are a whole word, and no whole word; [rows][room] each.
using odd_element = std::array<std::uint8_t, 3>;
struct sides {
  kvevict::strided layout;
  std::vector<index_t> words;
  std::vector<odd_element> odd;
  friend bool operator==(const sides& a, const sides& b) { return a.words == b.words && a.odd == b.odd; }
};

/// What a compaction left.
template <class E>
struct compacted {
  std::string wrong;  ///< what went wrong, or nothing
  std::vector<E> keys, values;
  sides moved;
  std::vector<index_t> lengths, order;
};

template <class E, class From, class To>
[[nodiscard]] compacted<E> gather(const host::stored<E, From, From>& from, const host::stored<E, To, To>& to,
                                  const kept_slots& kept, const sides& beside, int runs);
template <class E, class Layout>
[[nodiscard]] compacted<E> compact_in_place(const host::stored<E, Layout, Layout>& in, const kept_slots& kept,
                                            const sides& beside, int runs);
/// `order` is [rows][room of the sides].
template <class E, class Layout>
[[nodiscard]] compacted<E> swap_fill(const host::stored<E, Layout, Layout>& in, const std::vector<index_t>& order,
                                     const kept_slots& kept, const sides& beside, int runs);

}  // namespace on_device
