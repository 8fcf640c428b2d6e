// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/view/check.hpp>

namespace kvevict::detail {

/// What is wrong with an append as far as the host knows, lengths apart.
template <cache_view Added, cache_view To>
[[nodiscard]] status check_append(const Added& added, const To& to, const span<index_t>& lengths) {
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
  return {};
}

}  // namespace kvevict::detail
