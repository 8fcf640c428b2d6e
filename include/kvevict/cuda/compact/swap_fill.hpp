// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/core/workspace.hpp>
#include <kvevict/cuda/compact/pieces.hpp>
#include <kvevict/view/inputs.hpp>
#include <kvevict/view/reordered.hpp>

/// Which survivor goes into which hole, a block per row; `gather_rows` then moves them. One source for the device and
/// for tests (detail/block.hpp).
namespace kvevict::detail {

/// Memory of the device for a swap-fill. A row's part of it is where its part of the selection is: it has no more
/// moves than retained slots. Where keys turn, what stays in its place is listed too, for it may turn there.
struct swap_memory {
  index_t* sources;  ///< [room of the slots]
  index_t* holes;    ///< [room of the slots]
  index_t* moves;    ///< [rows], how many there are
  index_t* places;   ///< [room of the slots], where every retained token goes; null where nothing turns

  static constexpr swap_memory take(carver& from, offset_t room, offset_t rows, bool turns) {
    swap_memory m{};
    m.sources = from.take<index_t>(room);
    m.holes = from.take<index_t>(room);
    m.moves = from.take<index_t>(rows);
    if (turns) m.places = from.take<index_t>(room);
    return m;
  }
};

/// What `gather_rows` is to move then.
[[nodiscard]] constexpr row_moves planned(row_moves kept, const swap_memory& m) {
  const bool all = m.places != nullptr;
  if (all) kept.tokens = kept.slots;
  kept.slots = m.sources;
  kept.targets = all ? m.places : m.holes;
  if (!all) kept.counts = m.moves;
  return kept;
}

/// What the kernel works on. All memory is the device's.
template <class Cache>
struct swap_task {
  Cache cache;  ///< only its lengths are read
  token_order order;
  row_moves kept;
  swap_memory memory;
};

/// Words of shared memory for the bits of a stretch of the row, one per token.
inline constexpr index_t plan_words = 1024, tokens_of_word = 32;

/// Shared memory of a plan: a sum per warp, and these words.
template <class Block>
struct plan_memory {
  decltype(std::declval<Block&>().template shared<index_t>(0)) sums, bits;

  KVEVICT_HOST_DEVICE static plan_memory take(Block& b) {
    const auto sums = b.template shared<index_t>(warp_threads);
    return {sums, b.template shared<index_t>(plan_words)};
  }
};
inline constexpr offset_t plan_swaps_bytes = (warp_threads + plan_words) * sizeof(index_t);

/// Whether the ascending `slots` have this one.
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr bool among(const index_t* slots, index_t count, index_t slot) {
  const index_t i = row_positions{slots, 1}.before(slot, count);
  return i < count && slots[i] == slot;
}

/// Tokens of which a thread asks at once where they lie.
inline constexpr int tokens_at_once = 8;

/// Where the moves of one row are listed, each with room for all that it retains (swap_memory).
struct row_swaps {
  index_t* sources;
  index_t* holes;
  index_t* places;  ///< null where nothing turns
};

/// holes[..] = the places below `count` of the evicted tokens, in token order; returns how many. A stretch of the row
/// at a time, every such token leaves a bit; then a thread has some words of these bits, and writes behind those before
/// it.
template <class Block>
[[nodiscard]] KVEVICT_HOST_DEVICE index_t list_holes(Block& b, const token_order& order, const row_id& row,
                                                     index_t length, const index_t* retained, index_t count,
                                                     index_t* holes, const plan_memory<Block>& m) {
  constexpr index_t most = plan_words * tokens_of_word;
  auto found = b.template make_local<index_t>(), before = found;
  index_t all = 0;
  KVEVICT_ROLLED for (offset_t start = 0; start < length && count > 0; start += most) {
    const auto tokens = static_cast<index_t>(least<offset_t>(length - start, most));
    const index_t words = (tokens + tokens_of_word - 1) / tokens_of_word;
    const auto place = [&](int t, index_t token) {
      return b.template load<index_t>(t, &order(row, static_cast<index_t>(start + token)));
    };
    b.each([&](int t) { KVEVICT_ROLLED for (index_t i = t; i < words; i += b.threads()) m.bits.store(t, i, 0); });
    b.sync();
    b.each([&](int t) {
      KVEVICT_ROLLED for (index_t first = tokens_at_once * t; first < tokens; first += tokens_at_once * b.threads()) {
        index_t places[tokens_at_once];
        KVEVICT_UNROLLED for (int i = 0; i < tokens_at_once; ++i) places[i] = place(t, least(first + i, tokens - 1));
        std::uint32_t mask = 0;
        KVEVICT_UNROLLED for (int i = 0; i < tokens_at_once; ++i) {
          // Few tokens lie before the new end: only these are searched for.
          if (first + i < tokens && places[i] < count &&
              !among(retained, count, static_cast<index_t>(start + first + i)))
            mask |= 1u << i;
        }
        if (mask != 0) m.bits.add(t, first / tokens_of_word, static_cast<index_t>(mask << first % tokens_of_word));
      }
    });
    b.sync();
    const index_t words_of_thread = (words + b.threads() - 1) / b.threads();
    const auto each_word = [&](int t, const auto& f) {
      KVEVICT_ROLLED for (index_t w = t * words_of_thread; w < least((t + 1) * words_of_thread, words); ++w)
          f(w, static_cast<std::uint32_t>(m.bits.load(t, w)));
    };
    b.each([&](int t) {
      found[t] = 0;
      each_word(t, [&](index_t, std::uint32_t bits) { found[t] += bits_set(bits); });
    });
    const index_t here = exclusive_sums<index_t>(b, found, before, m.sums);
    b.each([&](int t) {
      index_t at = all + before[t];
      each_word(t, [&](index_t w, std::uint32_t bits) {
        KVEVICT_ROLLED for (std::uint32_t left = bits; left != 0 && at < count; left &= left - 1)
            b.store(t, holes + at++, place(t, w * tokens_of_word + bits_set(~left & (left - 1))));
      });
    });
    all += here;
    b.sync();
  }
  return all;
}

/// Where the entries of a row go, by one block: with m retained tokens, the evicted tokens that lie below m are the
/// holes and the retained ones that lie at m or behind it the survivors. The i-th survivor goes into the i-th hole,
/// both counted in token order; the order becomes that of the retained tokens, and behind them that of the slots, where
/// new ones will come. Returns how many move: sources[i] to holes[i], or, where places are listed, sources[k] to
/// places[k] for every retained token.
template <class Block>
[[nodiscard]] KVEVICT_HOST_DEVICE index_t plan_row_swaps(Block& b, const token_order& order, const row_id& row,
                                                         index_t length, const index_t* retained, index_t count,
                                                         const row_swaps& to, const plan_memory<Block>& m) {
  const bool all = to.places != nullptr;
  auto place = b.template make_local<index_t>(), found = place, before = place;
  const index_t holes = list_holes(b, order, row, length, retained, count, to.holes, m);

  // Token k's place is written where token k's was; the place that becomes it is read at retained[k] >= k. So within a
  // chunk all is read before anything is written (the sums wait), and what later chunks read lies behind what is
  // written.
  index_t moves = 0;
  KVEVICT_ROLLED for (offset_t start = 0; start < count; start += b.threads()) {
    b.each([&](int t) {
      const offset_t k = start + t;
      found[t] = 0;
      if (k >= count) return;
      place[t] = b.template load<index_t>(t, &order(row, retained[k]));
      found[t] = place[t] >= count ? 1 : 0;
    });
    const index_t here = exclusive_sums<index_t>(b, found, before, m.sums);
    b.each([&](int t) {
      const offset_t k = start + t;
      if (k >= count) return;
      const index_t i = moves + before[t], source = place[t];
      const bool moved = found[t] == 1 && i < least(holes, count);
      if (moved) place[t] = b.template load<index_t>(t, to.holes + i);
      if (moved || all) b.store(t, to.sources + (all ? k : i), source);
      if (all) b.store(t, to.places + k, place[t]);
      b.store(t, &order(row, static_cast<index_t>(k)), place[t]);
    });
    moves += here;
  }
  b.each([&](int t) {
    KVEVICT_ROLLED for (index_t k = count + t; k < length; k += b.threads()) b.store(t, &order(row, k), k);
  });
  return least(moves, least(holes, count));
}

/// The kernel.
template <class Block, class Cache>
KVEVICT_HOST_DEVICE void plan_swaps(Block& b, const swap_task<Cache>& task) {
  const auto shared = plan_memory<Block>::take(b);
  const row_id row = task.cache.shape().row(b.index());
  const index_t count = task.kept.count(row.index);
  const index_t length = task.kept.has(row.index) ? task.cache.length(row) : 0;  // otherwise nothing of it changes
  const offset_t begin = count > 0 ? task.kept.offsets[row.index] : 0;           // without room it may point anywhere
  const swap_memory& m = task.memory;
  const row_swaps to{m.sources + begin, m.holes + begin, m.places != nullptr ? m.places + begin : nullptr};
  const index_t moves = plan_row_swaps(b, task.order, row, length, task.kept.slots + begin, count, to, shared);
  b.each([&](int t) {
    if (t == 0) b.store(t, m.moves + row.index, moves);
  });
}

/// The same, and what follows the retained slots as a whole does so.
template <class Block, class Cache, class Moved>
KVEVICT_HOST_DEVICE void plan_swaps(Block& b, const swap_task<Cache>& task, const Moved& moved) {
  plan_swaps(b, task);
  const row_id row = task.cache.shape().row(b.index());
  if (!task.kept.has(row.index)) return;
  moved.each([&](const auto& m, index_t) {
    if constexpr (requires { m.retain(b, row, task.kept); }) m.retain(b, row, task.kept);
  });
}

}  // namespace kvevict::detail
