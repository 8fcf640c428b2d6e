// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <kvevict/core/status.hpp>
#include <kvevict/view/cache.hpp>
#include <kvevict/view/strided.hpp>
#include <type_traits>

namespace kvevict {

/// The slots of every row in the order of their tokens: data[k] is the slot of the k-th oldest token that is cached. A
/// permutation of 0 .. length - 1 per row. The caller starts all of a row's room as 0, 1, 2 ... once; `swap_fill` keeps
/// it up and leaves k in place k behind what is retained, so that slots which are appended later are in order too.
struct token_order {
  index_t* data = nullptr;
  strided layout{};  ///< `dim` is not used

  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr index_t& operator()(const row_id& row, index_t k) const {
    return data[layout.offset(row, k, 0)];
  }
  [[nodiscard]] constexpr status check() const {
    if (data != nullptr) return {};
    return {status_code::bad_pointer, "order", "the token order is null"};
  }
  /// Whether every place of a row is inside the row, and, as far as the sums of their numbers and squares tell, none is
  /// there twice.
  [[nodiscard]] constexpr status check(const row_id& row, index_t length) const {
    std::uint64_t sums = 0, squares = 0;  // less those of 0 .. length - 1; what passes 2^64 wraps around
    bool inside = true;
    for (index_t k = 0; k < length; ++k) {
      const index_t slot = (*this)(row, k);
      inside = inside && slot >= 0 && slot < length;
      const auto is = static_cast<std::uint64_t>(slot), was = static_cast<std::uint64_t>(k);
      sums += is - was;
      squares += is * is - was * was;
    }
    if (inside && sums == 0 && squares == 0) return {};
    return {status_code::bad_input, "order", "the token order of a row is no permutation of its slots"};
  }
};

/// A layout seen in token order, so that "the last slots", a pooling neighbourhood, a selection and a causal mask mean
/// what they mean in a cache that was never reordered:
///
/// @code
/// cache physical{cache_shape{1, 1, kv_heads}, lengths, dense, dense};
/// token_order order{positions, hnd(seqs, kv_heads, capacity, 1)};
/// auto by_token = in_token_order(physical, order);
/// @endcode
template <cache_layout Base>
struct reordered {
  Base base{};
  token_order order{};

  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr offset_t offset(const row_id& row, index_t slot, index_t dim) const {
    return base.offset(row, order(row, slot), dim);
  }
  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr offset_t dim_stride() const requires strided_dims<Base> {
    return base.dim_stride();
  }
  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr offset_t capacity(const row_id& row) const requires
      requires(const Base& b) {
    b.capacity(row_id{});
  }
  { return base.capacity(row); }
};

/// A cache of `entries`, seen in token order.
template <class Cache>
[[nodiscard]] constexpr auto in_token_order(const Cache& physical, const token_order& order) {
  const auto seen = [&](const auto& e) {
    return entries{e.data, reordered<std::remove_cvref_t<decltype(e.layout)>>{e.layout, order}, e.dim_count, e.reader};
  };
  if constexpr (cache_with_values<Cache>)
    return cache{physical.extents, physical.lengths, seen(physical.key_entries), seen(physical.value_entries)};
  else
    return key_cache{physical.extents, physical.lengths, seen(physical.key_entries)};
}

}  // namespace kvevict
