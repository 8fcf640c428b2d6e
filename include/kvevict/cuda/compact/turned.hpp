// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/compact/rope.hpp>
#include <kvevict/core/element.hpp>
#include <kvevict/cuda/compact/pieces.hpp>
#include <kvevict/cuda/compact/turn.hpp>

/// Keys that turn while they move (compact/rope.hpp): a thread holds the two pieces that turn into each other, so the
/// pairs of RoPE never leave it, and an entry may also turn where it lies.
namespace kvevict::detail {

/// How keys turn. Their units are pairs of pieces: the two halves' pieces, or two pieces that follow each other; behind
/// rotary_dims two that only move.
struct key_turn {
  turned_keys how;

  [[nodiscard]] constexpr bool fits(offset_t piece_dims) const {
    return how.embedding.rotary_dims % (2 * piece_dims) == 0;
  }
  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr index_t turned_units(index_t piece_dims) const {
    return how.embedding.rotary_dims / 2 / piece_dims;
  }
  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr bool split() const {
    return how.embedding.pairs == rope_pairs::half_split;
  }
  [[nodiscard]] constexpr index_t units(index_t pieces, index_t piece_dims) const {
    const index_t turned = turned_units(piece_dims);
    return turned + (pieces - 2 * turned + 1) / 2;
  }
  /// First dim of piece i of a unit.
  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr index_t dim(index_t unit, int i, index_t piece_dims) const {
    const index_t turned = turned_units(piece_dims);
    return (split() && unit < turned ? unit + i * turned : 2 * unit + i) * piece_dims;
  }
};

template <class T>
[[nodiscard]] auto deal_side(const side_array<T>& s) {
  return deal(side_entries<const T>{s.from, s.from_layout}, side_entries<T>{s.to, s.to_layout}, true, 1);
}
/// The sides that move, dealt out.
[[nodiscard]] constexpr moved_list<> deal_sides() { return {}; }
template <class Side, class... Rest>
[[nodiscard]] auto deal_sides(const Side& side, const Rest&... rest) {
  if constexpr (turns_keys<Side>)
    return deal_sides(rest...);
  else
    return list_before(deal_side(side), deal_sides(rest...));
}
/// How keys turn by what is passed among the sides.
[[nodiscard]] constexpr unturned turn_among() { return {}; }
template <class Side, class... Rest>
[[nodiscard]] constexpr auto turn_among(const Side& side, const Rest&... rest) {
  if constexpr (turns_keys<Side>)
    return key_turn{side};
  else
    return turn_among(rest...);
}

/// What moves from one cache to another: keys, values if the source has them, and side arrays.
template <class From, class To, class... Sides>
[[nodiscard]] auto moved_between(const From& from, const To& to, const Sides&... sides) {
  const auto both = [](const auto& a, const auto& b, const auto& turn) {
    return deal(a, b, dense_dims(a) && dense_dims(b), 1, turn);
  };
  const auto keys = both(from.keys(), to.keys(), turn_among(sides...));
  if constexpr (cache_with_values<From>)
    return list_before(keys, list_before(both(from.values(), to.values(), unturned{}), deal_sides(sides...)));
  else
    return list_before(keys, deal_sides(sides...));
}
/// What moves inside a cache.
template <class Cache, class... Sides>
[[nodiscard]] auto moved_within(const Cache& cache, index_t parts, const Sides&... sides) {
  const auto one = [&](const auto& entries, const auto& turn) {
    return deal(entries, own_memory{}, dense_dims(entries), parts, turn);
  };
  const auto keys = one(cache.keys(), turn_among(sides...));
  if constexpr (cache_with_values<Cache>)
    return list_before(keys, list_before(one(cache.values(), unturned{}), deal_sides(sides...)));
  else
    return list_before(keys, deal_sides(sides...));
}

/// Shared memory of a block whose keys turn: a fraction of a turn per pair.
template <class First, class... Rest>
[[nodiscard]] constexpr offset_t turn_table_bytes(const moved_list<First, Rest...>& list) {
  if constexpr (First::turns)
    return (list.first.turn.how.embedding.rotary_dims / 2 * offset_t{sizeof(std::uint64_t)} + 15) / 16 * 16;
  else
    return 0;
}
/// Writes it; the block waits.
template <class Block, class First, class... Rest>
[[nodiscard]] KVEVICT_HOST_DEVICE auto take_turn_table(Block& b, const moved_list<First, Rest...>& list) {
  if constexpr (First::turns) {
    const rope& embedding = list.first.turn.how.embedding;
    const index_t pairs = embedding.rotary_dims / 2;
    const auto table = b.template shared<std::uint64_t>(pairs);
    b.each([&](int t) {
      KVEVICT_ROLLED for (index_t i = t; i < pairs; i += b.threads())
          table.store(t, i, turn_fraction(embedding.frequencies[i]));
    });
    b.sync();
    return table;
  } else {
    return unturned{};
  }
}

/// The two pieces of an entry whose pairs a thread turns.
template <class Piece>
using piece_pair = handful<Piece, 2>;

/// Keys of one row in the hands of a block, two pieces of an entry per thread: reads and writes as `in_hand` does.
template <class Piece, class Block, class Moved, class Table>
struct turning_hand {
  Block& b;
  const Moved& m;
  row_id row;
  const index_t* sources;  ///< null: every entry where it is
  const index_t* targets;
  const index_t* tokens;
  index_t count, last_piece;
  const Table& table;
  decltype(std::declval<Block&>().template make_local<piece_pair<Piece>>()) held;

  using element = typename Moved::element;
  static constexpr int piece_dims = sizeof(Piece) / sizeof(element);

  [[nodiscard]] KVEVICT_HOST_DEVICE index_t at_once() const { return b.threads() >> m.lane_bits; }
  [[nodiscard]] KVEVICT_HOST_DEVICE static constexpr bool stay(offset_t) { return false; }

  KVEVICT_HOST_DEVICE void read(offset_t start, index_t first) {
    each_unit(start, first, [&](int t, index_t unit, index_t source, index_t, offset_t) {
      KVEVICT_UNROLLED for (int i = 0; i < 2; ++i) {
        const index_t dim = m.turn.dim(unit, i, piece_dims);
        if (dim < m.from.dims()) held[t].of[i] = b.template load<Piece>(t, m.from.at(row, source, dim));
      }
    });
  }
  KVEVICT_HOST_DEVICE void write(offset_t start, index_t first) {
    each_unit(start, first, [&](int t, index_t unit, index_t, index_t target, offset_t distance) {
      if (distance != 0 && unit < m.turn.turned_units(piece_dims)) {
        if (m.turn.split())
          turn<1, piece_dims>(t, unit, distance);
        else
          turn<2, 1>(t, unit, distance);
      }
      KVEVICT_UNROLLED for (int i = 0; i < 2; ++i) {
        const index_t dim = m.turn.dim(unit, i, piece_dims);
        if (dim < m.from.dims()) b.store(t, m.target().at(row, target, dim), held[t].of[i]);
      }
    });
  }

 private:
  /// f(thread, unit, source, target, distance) for all units that there are and that move or turn.
  template <class F>
  KVEVICT_HOST_DEVICE void each_unit(offset_t start, index_t first, const F& f) {
    b.each([&](int t) {
      const index_t unit = first + (t & (m.lanes() - 1));
      const offset_t k = start + (t >> m.lane_bits);
      if (k >= count || unit >= last_piece) return;
      const index_t source = sources == nullptr ? static_cast<index_t>(k) : sources[k];
      const index_t target = targets == nullptr ? static_cast<index_t>(k) : targets[k];
      const offset_t distance =
          m.turn.how.distance(row, tokens == nullptr ? source : tokens[k], static_cast<index_t>(k));
      if constexpr (Moved::in_own_memory)
        if (source == target && distance == 0) return;
      f(t, unit, source, target, distance);
    });
  }
  /// Turns the pairs of a unit: element j * Step of its two pieces, one behind the other, and the one Apart behind it.
  template <int Step, int Apart>
  KVEVICT_HOST_DEVICE void turn(int t, index_t unit, offset_t distance) {
    KVEVICT_UNROLLED for (int j = 0; j < piece_dims; ++j) {
      const turn_factors by = factors_of(static_cast<std::uint64_t>(distance) * table.load(t, unit * piece_dims + j));
      element& first = at(held[t], j * Step);
      element& second = at(held[t], j * Step + Apart);
      const float x = to_float(first), y = to_float(second);
      first = from_float<element>(x * by.cosine - y * by.sine);
      second = from_float<element>(x * by.sine + y * by.cosine);
    }
  }
  [[nodiscard]] KVEVICT_HOST_DEVICE static element& at(piece_pair<Piece>& pieces, int i) {
    return pieces.of[i / piece_dims].elements[i % piece_dims];
  }
};

/// Entries of one row in the hands of a block.
template <class Piece, class Block, class Moved, class Table>
[[nodiscard]] KVEVICT_HOST_DEVICE auto hold(Block& b, const Moved& m, const row_id& row, const row_moves& kept,
                                            index_t last_piece, const Table& table) {
  const offset_t first = kept.offsets[row.index];
  const auto of_row = [&](const index_t* all) { return all == nullptr ? nullptr : all + first; };
  const index_t* const targets = of_row(kept.targets);
  const index_t count = kept.count(row.index);
  if constexpr (Moved::turns)
    return turning_hand<Piece, Block, Moved, Table>{b,       m,
                                                    row,     kept.slots + first,
                                                    targets, of_row(kept.tokens),
                                                    count,   last_piece,
                                                    table,   b.template make_local<piece_pair<Piece>>()};
  else
    return hold_plain<Piece>(b, m, row, kept.slots + first, targets, count, last_piece);
}

}  // namespace kvevict::detail
