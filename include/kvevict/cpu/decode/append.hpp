// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cpu/backend.hpp>
#include <kvevict/cpu/detail/copy_entry.hpp>
#include <kvevict/cpu/select/receipt.hpp>
#include <kvevict/view/check.hpp>

namespace kvevict {

/// Copies the slots of `added` behind those of `to`, row by row, and adds their number to `lengths`: no slot that is
/// already cached moves. `to` has those lengths before (a row may be empty); rows of `added` may differ in length and
/// be empty. Layouts may differ, elements not.
///
/// Where a row of `to` is full, nothing is changed and `status::needed` is the number of bytes of keys and values that
/// the row would need; strides alone do not know their room.
template <class Executor, cache_view Added, cache_view To>
status append(const cpu<Executor>& on, const Added& added, const To& to, const span<index_t>& lengths) {
  static_assert(!cache_with_values<Added> || cache_with_values<To>,
                "kvevict: the destination needs values because the source has them");
  const cache_shape shape = to.shape(), other = added.shape();
  if (const status s = check(shape); !s.ok()) return s;
  if (other.layers != shape.layers || other.seqs != shape.seqs || other.kv_heads != shape.kv_heads)
    return {status_code::bad_shape, "added", "what is appended needs the same layers, seqs and kv_heads"};
  if (lengths.data == nullptr) return {status_code::bad_pointer, "lengths", "the lengths are null"};
  if (lengths.size() != shape.rows()) return {status_code::bad_shape, "lengths", "there must be one length per row"};
  if (const status s = check(added.keys(), "added.keys"); !s.ok()) return s;
  if (const status s = check(to.keys(), "to.keys"); !s.ok()) return s;
  if (added.keys().dims() != to.keys().dims())
    return {status_code::bad_shape, "added.keys", "source and destination need the same dims per entry"};
  if constexpr (cache_with_values<Added>) {
    if (const status s = check(added.values(), "added.values"); !s.ok()) return s;
    if (const status s = check(to.values(), "to.values"); !s.ok()) return s;
    if (added.values().dims() != to.values().dims())
      return {status_code::bad_shape, "added.values", "source and destination need the same dims per entry"};
  }
  for (index_t r = 0; r < shape.rows(); ++r) {
    const row_id row = shape.row(r);
    const index_t more = added.length(row);
    if (lengths[r] < 0 || more < 0 || lengths[r] > most_slots - more)
      return {status_code::bad_shape, "lengths", "a length is negative, or the row would pass most_slots"};
    if (lengths[r] != to.length(row))
      return {status_code::bad_shape, "lengths", "the lengths are not those of the destination"};
    bool fits = has_room(to.keys(), row, lengths[r] + more);
    if constexpr (cache_with_values<To>) fits = fits && has_room(to.values(), row, lengths[r] + more);
    if (!fits)
      return {status_code::small_output, "to", "a row of the destination is full",
              (static_cast<offset_t>(lengths[r]) + more) * detail::entry_bytes(to)};
  }
  on.how.run(static_cast<index_t>(shape.rows()), [&](index_t r, index_t) {
    const row_id row = shape.row(r);
    const index_t first = lengths[r], more = added.length(row);
    for (index_t i = 0; i < more; ++i) detail::copy_slot(added, to, row, i, first + i);
    lengths[r] = first + more;
  });
  return {};
}

}  // namespace kvevict
