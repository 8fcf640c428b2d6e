// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/compact/moves.hpp>
#include <kvevict/core/workspace.hpp>
#include <kvevict/cpu/select/select.hpp>
#include <kvevict/select/token_set.hpp>

namespace kvevict {
namespace detail {

/// The i-th row of a set, and how many there are.
struct shared_rows {
  cache_shape shape;
  set_scope scope;

  [[nodiscard]] index_t sets() const { return scope == set_scope::layer ? shape.layers * shape.seqs : shape.seqs; }
  [[nodiscard]] index_t count() const { return shape.kv_heads * (scope == set_scope::layer ? 1 : shape.layers); }
  [[nodiscard]] index_t row(index_t set, index_t i) const {
    if (scope == set_scope::layer) return set * shape.kv_heads + i;
    return (i / shape.kv_heads * shape.seqs + set) * shape.kv_heads + i % shape.kv_heads;
  }
};

/// How many rows of the set retain each slot.
inline void count_votes(const shared_rows& rows, index_t set, const selection& kept, index_t length, float* votes) {
  for (index_t j = 0; j < length; ++j) votes[j] = 0.0F;
  for (index_t i = 0; i < rows.count(); ++i)
    for (const index_t slot : kept[rows.row(set, i)]) votes[slot] += 1.0F;
}

}  // namespace detail

/// Bytes that `one_set` needs.
template <cache_view Cache>
[[nodiscard]] offset_t one_set_bytes(const Cache& cache) {
  carver count;
  count.take<float>(detail::longest_row_of(cache));
  return count.bytes();
}

/// Makes rows of a selection equal (select/token_set.hpp): `out` becomes the common set, once for every row, so that
/// any compaction can follow. `out.slots` needs room for it in every row; where there is less, nothing changes and
/// `status::needed` says how much. Receipts are not written.
template <cache_view Cache>
status one_set(const Cache& cache, const selection& kept, token_set how, set_scope scope, const selection& out,
               const workspace& memory) {
  if (const status s = check(cache); !s.ok()) return s;
  if (const status s = check_selection_of(cache, kept); !s.ok()) return s;
  const cache_shape shape = cache.shape();
  const detail::shared_rows rows{shape, scope};
  if (out.slots.data == nullptr || out.offsets.data == nullptr || out.offsets.size() != shape.rows() + 1)
    return {status_code::bad_pointer, "out", "the result needs slots and rows + 1 offsets"};
  if (out.slots.data == kept.slots.data || out.offsets.data == kept.offsets.data)
    return {status_code::bad_pointer, "out", "the result must not be the selection itself"};
  const offset_t bytes = one_set_bytes(cache);
  if (memory.data == nullptr || memory.size() < bytes ||
      reinterpret_cast<std::uintptr_t>(memory.data) % workspace_alignment != 0)
    return {status_code::small_workspace, "workspace", "the workspace is too small or not aligned; see one_set_bytes",
            bytes};
  for (index_t set = 0; set < rows.sets(); ++set)
    for (index_t i = 1; i < rows.count(); ++i)
      if (cache.length(shape.row(rows.row(set, i))) != cache.length(shape.row(rows.row(set, 0))))
        return {status_code::bad_shape, "length", "rows that share a token set must have equal lengths"};

  carver place(memory.data);
  float* const votes = place.take<float>(detail::longest_row_of(cache));
  const auto size_of = [&](index_t set, index_t length) {  // leaves the votes of the set in `votes`
    detail::count_votes(rows, set, kept, length, votes);
    offset_t total = 0, any = 0;
    for (index_t j = 0; j < length; ++j) {
      total += static_cast<offset_t>(votes[j]);
      any += votes[j] > 0 ? 1 : 0;
    }
    return static_cast<index_t>(how == token_set::union_of ? any : total / rows.count());
  };
  const auto length_of = [&](index_t set) { return cache.length(shape.row(rows.row(set, 0))); };
  offset_t needed = 0;
  for (index_t set = 0; set < rows.sets(); ++set)
    needed += static_cast<offset_t>(size_of(set, length_of(set))) * rows.count();
  if (out.slots.size() < needed)
    return {status_code::small_output, "out", "the result has less room than the common sets need", needed};

  out.offsets[0] = 0;
  for (index_t set = 0; set < rows.sets(); ++set)
    for (index_t i = 0, size = size_of(set, length_of(set)); i < rows.count(); ++i)
      out.offsets[rows.row(set, i) + 1] = size;
  for (index_t r = 0; r < shape.rows(); ++r) out.offsets[r + 1] += out.offsets[r];
  for (index_t set = 0; set < rows.sets(); ++set) {
    const index_t length = length_of(set), size = size_of(set, length);
    for (index_t i = 0; i < rows.count(); ++i)
      detail::select_row({votes, length}, size, {}, out.slots.data + out.offsets[rows.row(set, i)]);
  }
  return {};
}

}  // namespace kvevict
