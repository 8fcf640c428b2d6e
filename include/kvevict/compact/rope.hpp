// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/core/status.hpp>
#include <kvevict/core/types.hpp>
#include <kvevict/view/inputs.hpp>
#include <type_traits>

namespace kvevict {

/// Which two dims of a key form the pair that angle i turns.
enum class rope_pairs {
  half_split,  ///< (i, i + rotary_dims / 2): Llama and most models in transformers
  interleaved  ///< (2 i, 2 i + 1): GPT-J, llama.cpp's files
};

/// The rotary embedding that a model's keys carry: pair i at position p is turned by p * frequencies[i].
///
/// The table is the model's, so every scaling of it works (linear, NTK, YaRN, llama3); a common factor on the cosines,
/// as YaRN has, stays in the keys. Dims from rotary_dims on carry no position and are left alone.
struct rope {
  const double* frequencies = nullptr;  ///< [rotary_dims / 2], radians per position; plain RoPE: theta^(-2 i / dims)
  index_t rotary_dims = 0;              ///< even, at most the dims of a key
  rope_pairs pairs = rope_pairs::half_split;

  [[nodiscard]] constexpr status check(index_t dims) const {
    if (frequencies == nullptr) return {status_code::bad_pointer, "frequencies", "the frequencies are null"};
    if (rotary_dims < 2 || rotary_dims % 2 != 0 || rotary_dims > dims)
      return {status_code::bad_shape, "rotary_dims", "rotary_dims must be even, at least 2 and at most the dims"};
    return {};
  }
};

/// Passed beside the sides of a compaction: keys are turned to new positions while they move, in the same call.
///
/// @code
/// rope embedding{frequencies, head_dim};
/// status s = compact_in_place(cpu{}, view, kept, turned_keys{embedding});  // row r is at 0 .. lengths[r] - 1 now
/// @endcode
///
/// The k-th retained entry of a row was written at position from(retained[k]) and is turned to position to(k), both
/// counted as the selection counts: in token order where a cache is swapped. Without memory a slot is its position, so
/// `turned_keys{embedding}` closes the gaps that an eviction leaves. A key whose position stays keeps its bytes.
/// Positions are read while entries move: they must not be sides of the same call.
struct turned_keys {
  rope embedding;
  position_view from{};
  position_view to{};

  [[nodiscard]] constexpr status check() const { return {}; }
  /// Positions from where the entry of slot `source` was to where it goes as the k-th of its row.
  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr offset_t distance(const row_id& row, index_t source, index_t k) const {
    return static_cast<offset_t>(at(to, row)(k)) - at(from, row)(source);
  }

 private:
  KVEVICT_HOST_DEVICE static constexpr row_positions at(const position_view& positions, const row_id& row) {
    return positions.data == nullptr ? row_positions{} : positions.of(row);
  }
};

namespace detail {

/// What `rotate_keys` is given beside the cache.
template <class Cache>
[[nodiscard]] constexpr status check_rotation(const Cache& cache, const rope& embedding, const position_view& from,
                                              const position_view& to) {
  if (const status s = embedding.check(cache.keys().dims()); !s.ok()) return s;
  if (from.data == nullptr) return {status_code::bad_pointer, "from", "the present positions are null"};
  if (to.data == nullptr) return {status_code::bad_pointer, "to", "the new positions are null"};
  return {};
}

template <class Side>
inline constexpr bool turns_keys = std::is_same_v<Side, turned_keys>;

template <class... Sides>
inline constexpr bool any_turns = (false || ... || turns_keys<Sides>);

/// Whether keys of that many dims can turn as a side says.
template <class Side>
[[nodiscard]] constexpr status check_turn([[maybe_unused]] index_t dims, [[maybe_unused]] const Side& side) {
  if constexpr (turns_keys<Side>)
    return side.embedding.check(dims);
  else
    return {};
}

}  // namespace detail

}  // namespace kvevict
