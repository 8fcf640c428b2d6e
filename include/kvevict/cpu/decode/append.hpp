// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cpu/detail/copy_entry.hpp>
#include <kvevict/cpu/detail/pieces.hpp>
#include <kvevict/cpu/select/receipt.hpp>
#include <kvevict/decode/append.hpp>

namespace kvevict {
namespace detail {

template <entry_source Entries>
[[nodiscard]] bool has_blocks(const Entries& to, const row_id& row, index_t first, index_t last) {
  if constexpr (requires { to.layout.holds(row, first, last); })
    return to.layout.holds(row, first, last);
  else
    return true;
}

}  // namespace detail

/// Copies the slots of `added` behind those of `to`, row by row, and adds their number to `lengths`: no slot that is
/// already cached moves. `to` has those lengths before (a row may be empty); rows of `added` may differ in length and
/// be empty. Layouts may differ, elements not. Without values in `added` those of `to` stay what they are.
///
/// Where a row of `to` is full, nothing is changed and `status::needed` is the number of bytes of keys and values that
/// the row would need; strides alone do not know their room, and a block table has to name the blocks of the new slots
/// (a negative number is none). `added` and `to` must not share memory.
template <class Executor, cache_view Added, cache_view To>
status append(const cpu<Executor>& on, const Added& added, const To& to, const span<index_t>& lengths) {
  if (const status s = detail::check_append(added, to, lengths); !s.ok()) return s;
  const cache_shape shape = to.shape();
  for (row_id row; shape.has(row); row = shape.after(row)) {
    const index_t length = lengths[row.index], more = added.length(row);
    if (length < 0 || more < 0 || length > most_slots - more)
      return {status_code::bad_shape, "lengths", "a length is negative, or the row would pass most_slots"};
    if (length != to.length(row))
      return {status_code::bad_shape, "lengths", "the lengths are not those of the destination"};
    bool fits = has_room(to.keys(), row, length + more);
    if constexpr (cache_with_values<To>) fits = fits && has_room(to.values(), row, length + more);
    if (!fits)
      return {status_code::small_output, "to", "a row of the destination is full",
              (static_cast<offset_t>(length) + more) * detail::entry_bytes(to)};
    bool held = detail::has_blocks(to.keys(), row, length, length + more);
    if constexpr (cache_with_values<To>) held = held && detail::has_blocks(to.values(), row, length, length + more);
    if (!held)
      return {status_code::bad_shape, "to", "a row's new slots lie in blocks that its block table does not name"};
  }
  const auto cost = [&](index_t r) { return 1 + added.length(shape.row(r)); };
  detail::run_in_pieces(on.how, static_cast<index_t>(shape.rows()), cost, [&](index_t r, index_t) {
    const row_id row = shape.row(r);
    const index_t first = lengths[r], more = added.length(row);
    for (index_t i = 0; i < more; ++i) detail::copy_slot(added, to, row, i, first + i);
    lengths[r] = first + more;
  });
  return {};
}

}  // namespace kvevict
