// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <kvevict/compact/moves.hpp>
#include <kvevict/cuda/detail/alignment.hpp>
#include <kvevict/cuda/detail/block.hpp>
#include <kvevict/view/cache.hpp>
#include <type_traits>

/// What compaction on the device moves: keys, values and side arrays are entries alike, and entries go in pieces.
///
/// A piece is what one thread moves at once: 16 bytes, 4 bytes or an element, the same for all entries of a call. Some
/// neighbouring threads share an entry, a piece each (an entry of 256 bytes is half a warp's), and every thread holds
/// `pieces_held` pieces, so that enough is asked of the memory before the first of them arrives.
namespace kvevict::detail {

inline constexpr int pieces_held = 4;
inline constexpr offset_t widest_piece = 16;  ///< bytes

/// A piece: elements that lie and move together.
template <class E, std::size_t Count>
struct alignas(Count > 1 ? Count * sizeof(E) : alignof(E)) piece {
  E elements[Count];
};
/// The pieces that a thread holds between reading and writing.
template <class Piece, std::size_t Count = pieces_held>
struct handful {
  Piece of[Count];
};

/// A side array as entries of one dim.
template <class T>
struct side_entries {
  T* data = nullptr;
  strided layout{};

  [[nodiscard]] KVEVICT_HOST_DEVICE static constexpr index_t dims() { return 1; }
  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr T* at(const row_id& row, index_t slot, index_t) const {
    return data + layout.offset(row, slot, 0);
  }
};

/// The target of entries that move in their own memory: kernels then hold one layout, not the same one twice.
struct own_memory {};
[[nodiscard]] constexpr bool in_pieces_of(const own_memory&, offset_t) { return true; }

template <class Entries>
using element_in = std::remove_cvref_t<decltype(*std::declval<const Entries&>().at({}, 0, 0))>;

/// Entries that move as they are; those that turn meanwhile are keys (cuda/compact/turned.hpp).
struct unturned {
  [[nodiscard]] static constexpr bool fits(offset_t) { return true; }
  [[nodiscard]] static constexpr index_t units(index_t pieces, index_t) { return pieces; }
};

/// Entries that move, and how their pieces are dealt out.
template <class From, class To, class Turn = unturned>
struct moved {
  static constexpr bool turns = !std::is_same_v<Turn, unturned>;
  static constexpr bool in_own_memory = std::is_same_v<To, own_memory>;
  using element = element_in<From>;
  static_assert(std::is_same_v<element, element_in<std::conditional_t<std::is_same_v<To, own_memory>, From, To>>>,
                "kvevict: compaction moves bytes; source and destination need the same element type");
  static_assert(std::is_trivially_copyable_v<element>);

  From from;
  To to;
  index_t piece_dims = 1;  ///< dims of a piece, which are adjacent in memory
  index_t pieces = 1;      ///< of an entry; pairs of pieces where it turns
  index_t per_part = 1;    ///< of them that one block moves, where blocks share entries
  int lane_bits = 0;       ///< log2 of the threads that share an entry
  Turn turn{};

  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr const auto& target() const {
    if constexpr (in_own_memory)
      return from;
    else
      return to;
  }
  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr index_t parts() const { return (pieces + per_part - 1) / per_part; }
  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr int lanes() const { return 1 << lane_bits; }
};

/// Threads of an entry with that many pieces: as many as a warp has, but few without work.
[[nodiscard]] constexpr int lane_bits_of(index_t pieces) {
  int bits = 5;
  while (bits > 0 && (((pieces - 1) >> bits) + 1) << bits > pieces + pieces / 8) --bits;
  return bits;
}

/// Deals entries out. `parts`: how many blocks would like to share every entry. No part is below 64 bytes, so that what
/// the memory moves at once is not moved twice.
template <class From, class To, class Turn = unturned>
[[nodiscard]] moved<From, To, Turn> deal(const From& from, const To& to, bool dense, index_t parts,
                                         const Turn& turn = {}) {
  moved<From, To, Turn> m{from, to};
  constexpr auto bytes = static_cast<offset_t>(sizeof(typename moved<From, To, Turn>::element));
  for (const offset_t wide : {offset_t{4}, widest_piece})
    if (dense && wide % bytes == 0 && in_pieces_of(from, wide / bytes) && in_pieces_of(to, wide / bytes) &&
        turn.fits(wide / bytes))
      m.piece_dims = static_cast<index_t>(wide / bytes);
  m.turn = turn;
  m.pieces = turn.units(from.dims() / m.piece_dims, m.piece_dims);
  const auto whole = dense ? static_cast<index_t>(greatest<offset_t>(1, 64 / (m.piece_dims * bytes))) : 1;
  m.per_part = least(m.pieces, ((m.pieces - 1) / parts / whole + 1) * whole);
  // Where dims are apart, neighbouring slots are nearer than the dims of one: then neighbouring threads take slots.
  m.lane_bits = dense ? lane_bits_of(m.per_part) : 0;
  return m;
}

/// Calls f(piece) with the kind of piece that m is moved in.
template <class Moved, class F>
KVEVICT_HOST_DEVICE void by_pieces(const Moved& m, const F& f) {
  using E = typename Moved::element;
  constexpr std::size_t widest = widest_piece / sizeof(E), word = 4 / sizeof(E);  // elements; 0: wider than that
  if constexpr (widest > 1 && widest_piece % sizeof(E) == 0)
    if (m.piece_dims == index_t{widest}) return f(piece<E, widest>{});
  if constexpr (word > 1 && 4 % sizeof(E) == 0)
    if (m.piece_dims == index_t{word}) return f(piece<E, word>{});
  f(piece<E, 1>{});
}

/// Any number of `moved`, in a kernel's arguments.
template <class... Moved>
struct moved_list {
  template <class F>
  KVEVICT_HOST_DEVICE constexpr void each(const F&) const {}
  [[nodiscard]] KVEVICT_HOST_DEVICE static constexpr index_t parts() { return 0; }
};
template <class First, class... Rest>
struct moved_list<First, Rest...> {
  static constexpr bool turns = First::turns;  ///< keys come first, and only they turn
  First first;
  moved_list<Rest...> rest;

  /// f(moved, parts of those before it) for all of them.
  template <class F>
  KVEVICT_HOST_DEVICE constexpr void each(const F& f, index_t before = 0) const {
    f(first, before);
    if constexpr (sizeof...(Rest) > 0) rest.each(f, before + first.parts());
  }
  /// Blocks of a row where blocks share entries.
  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr index_t parts() const { return first.parts() + rest.parts(); }
};
template <class First, class... Rest>
[[nodiscard]] constexpr moved_list<First, Rest...> list_before(const First& first, const moved_list<Rest...>& rest) {
  return {first, rest};
}

/// The selection that kernels read, and where the retained entries go.
struct row_moves {
  const index_t* slots = nullptr;
  offset_t room = 0;                  ///< of `slots`
  const offset_t* offsets = nullptr;  ///< [rows + 1]
  const index_t* targets = nullptr;   ///< [room], or null: to the front, one after another
  const index_t* tokens = nullptr;    ///< [room], or null: what the selection counts, where that is not `slots`
  const index_t* counts = nullptr;    ///< [rows], or null: all that the offsets say

  /// Whether the selection had room to say which entries of a row move.
  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr bool has(index_t row) const {
    return offsets[row] >= 0 && offsets[row + 1] >= offsets[row] && offsets[row + 1] <= room;
  }
  /// Entries of a row that move.
  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr index_t count(index_t row) const {
    if (!has(row)) return 0;
    return counts != nullptr ? counts[row] : static_cast<index_t>(offsets[row + 1] - offsets[row]);
  }
};

/// A kernel of its own, a thread per row: lengths[r] = retained slots of row r, where the selection has them.
template <class Block>
KVEVICT_HOST_DEVICE void write_lengths(Block& b, const row_moves& kept, index_t rows, index_t* lengths) {
  b.each([&](int t) {
    const offset_t r = static_cast<offset_t>(b.index()) * b.threads() + t;
    if (r >= rows || !kept.has(static_cast<index_t>(r))) return;
    b.store(t, lengths + r, kept.count(static_cast<index_t>(r)));
  });
}

/// Entries of one row in the hands of a block: every thread has some pieces of them.
template <class Piece, class Block, class Moved>
struct in_hand {
  Block& b;
  const Moved& m;
  row_id row;
  const index_t* sources;
  const index_t* targets;
  index_t count, last_piece;
  decltype(std::declval<Block&>().template make_local<handful<Piece>>()) held;

  /// Entries that the block holds at once.
  [[nodiscard]] KVEVICT_HOST_DEVICE index_t at_once() const { return (b.threads() >> m.lane_bits) * pieces_held; }
  /// Whether all up to the k-th are where they go: slots ascend, so it is enough that this one is.
  [[nodiscard]] KVEVICT_HOST_DEVICE bool stay(offset_t k) const { return sources[k] == k; }

  /// Reads one piece of `at_once()` entries from `start` on; threads that share an entry have its pieces from `first`.
  /// Nothing is asked before a thread has asked for all that it will hold: one without a piece reads the last.
  KVEVICT_HOST_DEVICE void read(offset_t start, index_t first) {
    b.each([&](int t) {
      const index_t dim = least(piece_of(t, first), last_piece - 1) * m.piece_dims;
      index_t slots[pieces_held];
      KVEVICT_UNROLLED for (int i = 0; i < pieces_held; ++i) {
        slots[i] = sources[least<offset_t>(entry_of(t, start, i), count - 1)];
      }
      KVEVICT_UNROLLED for (int i = 0; i < pieces_held; ++i) {
        held[t].of[i] = b.template load<Piece>(t, m.from.at(row, slots[i], dim));
      }
    });
  }
  /// Writes what was read.
  KVEVICT_HOST_DEVICE void write(offset_t start, index_t first) {
    b.each([&](int t) {
      const index_t p = piece_of(t, first);
      if (p >= last_piece) return;
      KVEVICT_UNROLLED for (int i = 0; i < pieces_held; ++i) {
        const offset_t k = entry_of(t, start, i);
        if (k >= count || (targets != nullptr && targets[k] == sources[k])) continue;
        const index_t target = targets == nullptr ? static_cast<index_t>(k) : targets[k];
        b.store(t, m.target().at(row, target, p * m.piece_dims), held[t].of[i]);
      }
    });
  }

 private:
  [[nodiscard]] KVEVICT_HOST_DEVICE index_t piece_of(int t, index_t first) const {
    return first + (t & (m.lanes() - 1));
  }
  /// The entry of which the thread has its i-th piece.
  [[nodiscard]] KVEVICT_HOST_DEVICE offset_t entry_of(int t, offset_t start, int i) const {
    return start + i * (b.threads() >> m.lane_bits) + (t >> m.lane_bits);
  }
};
/// Moves what one of `shares` blocks has of a row, where nothing that is read is written by another.
template <class Hand>
KVEVICT_HOST_DEVICE void move_entries(Hand& entries, index_t share, index_t shares) {
  const offset_t step = entries.at_once();
  KVEVICT_ROLLED for (index_t first = 0; first < entries.m.pieces; first += entries.m.lanes()) {
    KVEVICT_ROLLED for (offset_t start = share * step; start < entries.count; start += shares * step) {
      entries.read(start, first);
      entries.write(start, first);
    }
  }
}

/// `count` entries of a row: the k-th from sources[k] to targets[k], or to the row's front without targets.
template <class Piece, class Block, class Moved>
[[nodiscard]] KVEVICT_HOST_DEVICE in_hand<Piece, Block, Moved> hold_plain(Block& b, const Moved& m, const row_id& row,
                                                                          const index_t* sources,
                                                                          const index_t* targets, index_t count,
                                                                          index_t last_piece) {
  return {b, m, row, sources, targets, count, last_piece, b.template make_local<handful<Piece>>()};
}

}  // namespace kvevict::detail
