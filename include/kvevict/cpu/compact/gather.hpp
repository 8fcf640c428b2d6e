// SPDX-License-Identifier: MIT
#pragma once

#include <functional>
#include <kvevict/cpu/backend.hpp>
#include <kvevict/cpu/detail/copy_entry.hpp>

namespace kvevict {
namespace detail {

/// Whether the memory that a row spans in `a` (slots first .. last) and in `b` (0 .. count) has a byte in common.
/// Blocks of one pool interleave lawfully, so paged layouts are not compared.
template <class A, class B>
[[nodiscard]] bool spans_overlap(const A& a, const B& b, const row_id& row, index_t first, index_t last,
                                 index_t count) {
  if constexpr (
      requires { a.layout.block_table; } || requires { b.layout.block_table; }) {
    return false;
  } else {
    const auto* a0 = a.at(row, first, 0);
    const auto* a1 = a.at(row, last, a.dims() - 1);
    const auto* b0 = b.at(row, 0, 0);
    const auto* b1 = b.at(row, count - 1, b.dims() - 1);
    const std::less<const void*> before{};
    return !before(before(a0, a1) ? a1 : a0, before(b0, b1) ? b0 : b1) &&
           !before(before(b0, b1) ? b1 : b0, before(a0, a1) ? a0 : a1);
  }
}

template <class From, class To>
[[nodiscard]] status check_target(const From& from, const To& to, const char* name, const cache_shape& shape,
                                  const selection& kept) {
  if (const status s = check(to, name); !s.ok()) return s;
  if (from.dims() != to.dims())
    return {status_code::bad_shape, name, "source and destination need the same dims per entry"};
  for (row_id row; shape.has(row); row = shape.after(row)) {
    const span<const index_t> slots = kept[row.index];
    if (slots.empty()) continue;
    if (!has_room(to, row, static_cast<index_t>(slots.size())))
      return {status_code::small_output, name, "a row of the destination has less room than it retains", slots.size()};
    if (spans_overlap(from, to, row, slots[0], slots[slots.size() - 1], static_cast<index_t>(slots.size())))
      return {status_code::bad_pointer, name, "source and destination overlap; compact_in_place needs only one"};
  }
  return {};
}

}  // namespace detail

/// Copies the retained entries of every row of `from` to the front of the same row of `to` (compact/moves.hpp): any
/// layout to any layout, the same element types. Lengths of `to` are not read; they become `retained_lengths`. The two
/// caches must not share memory, nor the keys and values of `to`; what a row spans in both is compared, except in
/// blocks, and refused where it overlaps.
template <class Executor, cache_view From, cache_view To, slot_side... Sides>
status gather(const cpu<Executor>& on, const From& from, const selection& kept, const To& to, const Sides&... sides) {
  static_assert(!cache_with_values<From> || cache_with_values<To>,
                "kvevict: the destination needs values because the source has them");
  if (const status s = check(from); !s.ok()) return s;
  if (const status s = check_selection_of(from, kept); !s.ok()) return s;
  const cache_shape shape = from.shape();
  const cache_shape target = to.shape();
  if (target.layers != shape.layers || target.seqs != shape.seqs || target.kv_heads != shape.kv_heads)
    return {status_code::bad_shape, "to", "source and destination need the same layers, seqs and kv_heads"};
  if (const status s = detail::check_target(from.keys(), to.keys(), "to.keys", shape, kept); !s.ok()) return s;
  if constexpr (cache_with_values<From>)
    if (const status s = detail::check_target(from.values(), to.values(), "to.values", shape, kept); !s.ok()) return s;
  if (const status s = detail::check_sides(from, sides...); !s.ok()) return s;
  const auto where = detail::target_of(from, kept);
  on.how.run(kept.rows(),
             [&](index_t r, index_t) { detail::move_row(from, to, shape.row(r), kept[r], 0, where, sides...); });
  return {};
}

}  // namespace kvevict
