// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/detail/alignment.hpp>
#include <kvevict/cuda/detail/entry_elements.hpp>
#include <kvevict/cuda/score/slot_passes.hpp>

/// How warps read the entries of a row: memory is waited for once for 2 KB of a warp where the layout lets a lane load
/// 16 bytes. Sums over dims have one order, that of `entry_lanes`, whoever computes them.
namespace kvevict::detail {

/// Slots that a lane has at a time.
inline constexpr int entries_at_once = 4;

/// How a warp lies over entries: `along` lanes, a power of two, along the dims of each, `Dims` adjacent ones per lane,
/// and from there on the same again; its other lanes have the slots beside.
template <class Entries, int Dims>
struct entry_lanes {
  static constexpr int dims = Dims;
  using taken = float[entries_at_once][std::size_t{Dims}];

  const Entries& of;
  const row_id& row;
  index_t length;
  index_t pieces;  ///< of an entry, `Dims` each
  int along = 1;

  KVEVICT_HOST_DEVICE entry_lanes(const Entries& entries, const row_id& of_row, index_t slots)
      : of(entries), row(of_row), length(slots), pieces(entries.dims() / Dims) {
    while (along < warp_threads && along < pieces) along *= 2;
  }
  /// Slots of a warp at a time.
  [[nodiscard]] KVEVICT_HOST_DEVICE int slots() const { return entries_at_once * (warp_threads / along); }
  /// Number s of a thread's slots, where its warp has those from `first` on.
  [[nodiscard]] KVEVICT_HOST_DEVICE offset_t slot(int t, offset_t first, int s) const {
    return first + s * (warp_threads / along) + t % warp_threads / along;
  }
  [[nodiscard]] KVEVICT_HOST_DEVICE int first_piece(int t) const { return t % along; }
  /// Whether the thread is the one of its slots that speaks for them.
  [[nodiscard]] KVEVICT_HOST_DEVICE bool speaks(int t) const { return t % along == 0; }

  /// f(load), where load(x, piece) takes a piece of the entries of a thread's slots; of slots behind the last, the
  /// last's.
  template <class F>
  KVEVICT_HOST_DEVICE void with_entries(int t, offset_t first, const F& f) const {
    const auto entry = [&](int s) {
      return entry_elements<Entries>{of, row, static_cast<index_t>(least<offset_t>(slot(t, first, s), length - 1))};
    };
    static_assert(entries_at_once == 4);
    const entry_elements<Entries> entries[] = {entry(0), entry(1), entry(2), entry(3)};
    f([&](taken& x, index_t piece) {
      KVEVICT_UNROLLED for (int s = 0; s < entries_at_once; ++s) take_dims(entries[s], piece * Dims, x[s]);
    });
  }
};

/// The sum of f(0) .. f(Count - 1), a power of two, pairs first: a rounding per doubling.
template <int Count, class F>
[[nodiscard]] KVEVICT_HOST_DEVICE float sum_of_pairs(const F& f) {
  float x[std::size_t{Count}];
  KVEVICT_UNROLLED for (int i = 0; i < Count; ++i) x[i] = f(i);
  KVEVICT_UNROLLED for (int half = Count / 2; half > 0; half /= 2) {
    KVEVICT_UNROLLED for (int i = 0; i < half; ++i) x[i] += x[i + half];
  }
  return x[0];
}

/// f(lanes), with as many dims per lane as the layout lets one access of 16 bytes have, eight at most.
template <class Entries, class F>
KVEVICT_HOST_DEVICE void with_entry_lanes(const Entries& entries, const row_id& row, index_t length, const F& f) {
  if constexpr (requires { entry_elements<Entries>::first; }) {
    constexpr int together = least(8, static_cast<int>(16 / sizeof(element_of<Entries>)));
    if constexpr (together > 1)
      if (dense_dims(entries) && in_pieces_of(entries, together))
        return f(entry_lanes<Entries, together>(entries, row, length));
  }
  f(entry_lanes<Entries, 1>(entries, row, length));
}

/// give(thread, slot, sum of term(thread, x_d, d) over the dims of the slot's entry), on one thread for every slot of
/// number `part` of `parts` of the row.
template <class Block, class Lanes, class Term, class Give>
KVEVICT_HOST_DEVICE void sums_of_slots(Block& b, const Lanes& lanes, index_t part, index_t parts, const Term& term,
                                       const Give& give) {
  using local = decltype(b.template make_local<float>());
  const offset_t of_block = static_cast<offset_t>(b.threads() / warp_threads) * lanes.slots();
  KVEVICT_ROLLED for (offset_t start = part * of_block; start < lanes.length; start += parts * of_block) {
    const auto first = [&](int t) { return start + t / warp_threads * lanes.slots(); };
    local sums[entries_at_once];
    KVEVICT_UNROLLED for (int s = 0; s < entries_at_once; ++s) sums[s] = b.template make_local<float>();
    b.each([&](int t) {
      lanes.with_entries(t, first(t), [&](const auto& load) {
        float sum[entries_at_once] = {};
        KVEVICT_ROLLED for (index_t p = lanes.first_piece(t); p < lanes.pieces; p += lanes.along) {
          typename Lanes::taken x;
          load(x, p);
          KVEVICT_UNROLLED for (int s = 0; s < entries_at_once; ++s) sum[s] +=
              sum_of_pairs<Lanes::dims>([&](int e) { return term(t, x[s][e], p * Lanes::dims + e); });
        }
        KVEVICT_UNROLLED for (int s = 0; s < entries_at_once; ++s) sums[s][t] = sum[s];
      });
    });
    lane_sums(b, sums, 1, lanes.along);
    b.each([&](int t) {
      if (!lanes.speaks(t)) return;
      KVEVICT_UNROLLED for (int s = 0; s < entries_at_once; ++s) {
        const offset_t slot = lanes.slot(t, first(t), s);
        if (slot < lanes.length) give(t, static_cast<index_t>(slot), sums[s][t]);
      }
    });
  }
}

/// ||entry||^2 of every slot.
enum class entry_part { keys, values };
template <entry_part Part>
struct entry_squares : slot_pass {
  template <class Numbers>
  [[nodiscard]] KVEVICT_HOST_DEVICE static constexpr auto& of(Numbers& numbers) {
    if constexpr (Part == entry_part::keys)
      return numbers.key_squares;
    else
      return numbers.value_squares;
  }
  static void take(slot_numbers& numbers, carver& from, offset_t rows, const program_extent& extent) {
    of(numbers) = from.take<float>(rows * extent.length);
  }
  template <class Block, class Inputs>
  KVEVICT_HOST_DEVICE static void run(Block& b, const Inputs& in, const program_extent& extent, const row_id& row,
                                      index_t part, index_t parts) {
    float* const to = extent.of_row(of(extent.numbers), row);
    const auto sum = [&](const auto& entries) {
      with_entry_lanes(entries, row, in.cache.length(row), [&](const auto& lanes) {
        sums_of_slots(
            b, lanes, part, parts, [](int, float x, index_t) { return x * x; },
            [&](int t, index_t j, float square) { b.store(t, to + j, square); });
      });
    };
    if constexpr (Part == entry_part::keys)
      sum(in.cache.keys());
    else
      sum(in.cache.values());
  }
};

}  // namespace kvevict::detail
