// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/core/workspace.hpp>
#include <kvevict/cuda/detail/digits.hpp>
#include <kvevict/cuda/score/columns.hpp>
#include <kvevict/score/attention.hpp>
#include <kvevict/score/combine.hpp>
#include <kvevict/score/scorer.hpp>

/// How a row is scored on the device: one block runs a scorer's whole chain, source and stages, one after another.
/// Specialised under cuda/score/ for every description of score/; a source of the user's own needs no specialisation
/// if it has the member, callable on the device,
///
///     float score_slot(const Inputs& in, const row_context& row, index_t slot) const
namespace kvevict::detail {

/// Part of an input that is not given.
struct not_given {};

/// What the passes over slots (slot_passes.hpp) leave for each other and for the programs of the rows, where a scorer
/// has them.
struct slot_numbers {
  float* key_squares = nullptr;    ///< [rows][length]
  float* key_angles = nullptr;     ///< [rows][length]
  float* key_sums = nullptr;       ///< [rows][stretches][key_dims]
  float* key_anchors = nullptr;    ///< [rows][key_dims]
  float* value_squares = nullptr;  ///< [rows][length]
};

/// What scratch memory depends on, and what other kernels have left for this one.
struct program_extent {
  index_t length = 0;       ///< slots of the longest row
  index_t group_size = 1;   ///< query_heads per kv_head
  index_t key_dims = 0;     ///< of an entry
  column_output columns{};  ///< what `score::attention` gives every row
  slot_numbers numbers{};

  /// Numbers of one row, out of [rows][length].
  [[nodiscard]] KVEVICT_HOST_DEVICE float* of_row(float* all, const row_id& row) const {
    return all + static_cast<offset_t>(row.index) * length;
  }
};

/// Shared memory of a program; sources and stages use it one after another.
template <class Block>
struct program_memory {
  digit_memory<Block> digits;
  decltype(std::declval<Block&>().template shared<double>(0)) sums;  ///< one per warp
  decltype(std::declval<Block&>().template shared<float>(0)) peaks;  ///< one per warp

  KVEVICT_HOST_DEVICE static program_memory take(Block& b) {
    const auto digits = digit_memory<Block>::take(b);
    const auto sums = b.template shared<double>(warp_threads);
    return {digits, sums, b.template shared<float>(warp_threads)};
  }
};
inline constexpr offset_t program_memory_bytes = digit_memory_bytes + warp_threads * (sizeof(double) + sizeof(float));

/// give(thread, slot, all) for the slots below `count` that number `part` of `parts` of a row has, where all is `start`
/// with step(all, thread, slot, k) for every k below `terms` in turn. A thread has several slots `AtOnce`, so that it
/// waits for memory less often: `step` reads, and what takes long or may branch is left to `give`.
template <int AtOnce = 8, class Block, class All, class Step, class Give>
KVEVICT_HOST_DEVICE void fold_slots(Block& b, index_t count, offset_t terms, const All& start, const Step& step,
                                    const Give& give, index_t part = 0, index_t parts = 1) {
  const offset_t apart = static_cast<offset_t>(parts) * b.threads();
  b.each([&](int t) {
    KVEVICT_ROLLED for (offset_t first = static_cast<offset_t>(part) * b.threads() + t; first < count;
                        first += AtOnce * apart) {
      const auto is_slot = [&](int s) { return first + s * apart < count; };
      const auto slot = [&](int s) { return static_cast<index_t>(is_slot(s) ? first + s * apart : first); };
      All all[std::size_t{AtOnce}];
      KVEVICT_UNROLLED for (int s = 0; s < AtOnce; ++s) all[s] = start;
      KVEVICT_ROLLED for (offset_t k = 0; k < terms; ++k) {
        KVEVICT_UNROLLED for (int s = 0; s < AtOnce; ++s) all[s] = step(all[s], t, slot(s), k);
      }
      KVEVICT_UNROLLED for (int s = 0; s < AtOnce; ++s) {
        if (is_slot(s)) give(t, slot(s), all[s]);
      }
    }
  });
}

/// A row, and the block that scores it.
template <class Block, class Inputs>
struct row_program {
  Block& b;
  const Inputs& in;
  const program_extent& extent;
  score::row_context row;
  program_memory<Block> shared;

  /// f(thread, i) for all i below count; thread t has i = t, t + threads, ...
  template <class F>
  KVEVICT_HOST_DEVICE void each(index_t count, const F& f) const {
    b.each([&](int t) {
      for (index_t i = t; i < count; i += b.threads()) f(t, i);
    });
  }
  /// to[slot] = value(thread, what read(thread, slot) gives) for all slots of the row (`fold_slots`).
  template <class Array, class Read, class Value>
  KVEVICT_HOST_DEVICE void write(const Array& to, const Read& read, const Value& value) const {
    using all = decltype(read(0, 0));
    fold_slots(
        b, row.length, 1, all{}, [&](const all&, int t, index_t j, offset_t) { return read(t, j); },
        [&](int t, index_t j, const all& x) { to.store(t, j, value(t, x)); });
  }
  /// to[slot] = read(thread, slot).
  template <class Array, class Read>
  KVEVICT_HOST_DEVICE void write(const Array& to, const Read& read) const {
    write(to, read, [](int, float x) { return x; });
  }
};

/// Sources:  plan(s, extent, scratch)        takes from `scratch` what `run` will take, for rows up to `extent`
///           run(program, s, out, scratch)   writes scores[heads][row.length]
///
/// Who begins finds all that was written before; every `run` ends with the barrier that makes this so.
template <class Source>
struct source_program {
  static void plan(const Source&, const program_extent&, carver&) {}
  template <class Program>
  KVEVICT_HOST_DEVICE static void run(const Program& p, const Source& s, float* out, carver) {
    static_assert(!Source::per_query_head, "kvevict: a scorer of one's own gives scores per kv_head");
    const auto scores = p.b.global(out, p.row.length);
    p.write(scores, [&](int, index_t j) { return s.score_slot(p.in, p.row, j); });
    p.b.sync();
  }
};

/// Stages: the same; `run(program, s, scores, scratch)` changes scores[length] in place. A group reduction has no `run`
/// but says what it does with the heads: `as`.
template <class Stage>
struct stage_program;

/// Base of stages without scratch.
template <class Stage>
struct plain_stage_program {
  static void plan(const Stage&, const program_extent&, carver&) {}
};

/// give(thread, slot, score of the group) for the slots that number `part` of `parts` of a row has, from
/// head(thread, h, slot), those of the first head to those of the last.
template <class Stage, class Block, class Head, class Give>
KVEVICT_HOST_DEVICE void reduce_heads(Block& b, index_t length, index_t heads, const Head& head, const Give& give,
                                      index_t part = 0, index_t parts = 1) {
  fold_slots(
      b, length, heads, 0.0F,
      [&](float all, int t, index_t j, offset_t h) {
        const float score = head(t, static_cast<index_t>(h), j);
        return h == 0 ? score : combined_heads(stage_program<Stage>::as, all, score);
      },
      [&](int t, index_t j, float all) { give(t, j, all_heads(stage_program<Stage>::as, all, heads)); }, part, parts);
}

/// Base of stages that do nothing to a row.
template <class Stage>
struct empty_stage_program : plain_stage_program<Stage> {
  template <class Program>
  KVEVICT_HOST_DEVICE static void run(const Program&, const Stage&, float*, carver) {}
};

/// Columns that other kernels have computed, divided as the scorer says.
template <class Gain, class Weight>
struct source_program<score::attention<Gain, Weight>> {
  using attention = score::attention<Gain, Weight>;
  static void plan(const attention&, const program_extent&, carver&) {}
  template <class Program>
  KVEVICT_HOST_DEVICE static void run(const Program& p, const attention&, float* out, carver) {
    const column_output& columns = p.extent.columns;
    KVEVICT_ROLLED for (index_t h = 0; h < columns.kept(); ++h) {
      const float* const from = columns.of_row(p.row.row.index) + h * columns.head;
      if (from == out) {  // written in place
        static_cast<void>(p.b.global(out, p.row.length, true));
        return;
      }
      p.write(p.b.global(out + static_cast<offset_t>(h) * p.row.length, p.row.length),
              [&](int t, index_t j) { return p.b.template load<float>(t, from + j); });
    }
    p.b.sync();
  }
};

template <class Source>
inline constexpr bool reads_columns = false;
template <class Gain, class Weight>
inline constexpr bool reads_columns<score::attention<Gain, Weight>> = true;

/// Sources of a scorer that are attention; one of them has its columns computed before the programs of the rows.
template <class S>
inline constexpr int attention_sources = reads_columns<S> ? 1 : 0;
template <class Source, class Stage>
inline constexpr int attention_sources<score::pipe<Source, Stage>> = attention_sources<Source>;
template <class A, class B>
inline constexpr int attention_sources<score::product<A, B>> = attention_sources<A> + attention_sources<B>;
template <class A, class B>
inline constexpr int attention_sources<score::weighted_sum<A, B>> = attention_sources<A> + attention_sources<B>;

/// What a scorer does first with the heads of its attention, which attention's kernels do for it; and whether it begins
/// with its attention, so that columns may be written where the scores will be.
struct column_use {
  heads_as as = heads_as::each;
  bool first = false;
};
template <class S>
inline constexpr column_use columns_of = {heads_as::each, reads_columns<S>};
template <class Source, class Stage>
inline constexpr column_use columns_of<score::pipe<Source, Stage>> = [] {
  if constexpr (reads_columns<Source> && Stage::reduces_group)
    return column_use{stage_program<Stage>::as, true};
  else
    return columns_of<Source>;
}();
template <class A, class B>
inline constexpr column_use columns_of_either =
    attention_sources<A> != 0 ? columns_of<A> : column_use{columns_of<B>.as, false};
template <class A, class B>
inline constexpr column_use columns_of<score::product<A, B>> = columns_of_either<A, B>;
template <class A, class B>
inline constexpr column_use columns_of<score::weighted_sum<A, B>> = columns_of_either<A, B>;
template <class S>
inline constexpr bool columns_in_place = columns_of<S>.first&& columns_of<S>.as != heads_as::each;

/// The columns of a scorer's attention, whose scores go to `scores`: there, or to memory of their own.
template <class Scorer>
[[nodiscard]] column_output take_columns(carver& from, offset_t rows, const program_extent& extent, float* scores) {
  column_output out = column_output::of(columns_of<Scorer>.as, extent.group_size, extent.length);
  out.data = columns_in_place<Scorer> ? scores : from.take<float>(rows * out.row);
  return out;
}

/// The attention of a scorer, or that it has none. On the host.
template <class S>
[[nodiscard]] constexpr auto attention_of(const S& scorer) {
  static_assert(attention_sources<S> <= 1, "kvevict: on the device a scorer reads attention once at most");
  if constexpr (reads_columns<S>)
    return scorer;
  else if constexpr (attention_sources<S> == 0)
    return not_given{};
  else if constexpr (requires { scorer.source; })
    return attention_of(scorer.source);
  else if constexpr (attention_sources<std::remove_cvref_t<decltype(scorer.a)>> != 0)
    return attention_of(scorer.a);
  else
    return attention_of(scorer.b);
}

template <class Source, class Stage>
struct source_program<score::pipe<Source, Stage>> {
  using pipe = score::pipe<Source, Stage>;
  /// Columns come reduced.
  static constexpr bool copies_heads = Stage::reduces_group && !reads_columns<Source>;

  static void plan(const pipe& p, const program_extent& extent, carver& scratch) {
    carver first = scratch, second = scratch;  // source and stage use the same bytes one after the other
    if constexpr (copies_heads) first.take<float>(static_cast<offset_t>(extent.group_size) * extent.length);
    source_program<Source>::plan(p.source, extent, first);
    stage_program<Stage>::plan(p.stage, extent, second);
    scratch = first.bytes() > second.bytes() ? first : second;
  }

  template <class Program>
  KVEVICT_HOST_DEVICE static void run(const Program& p, const pipe& s, float* out, carver scratch) {
    if constexpr (copies_heads) {
      float* const heads = scratch.take<float>(static_cast<offset_t>(p.extent.group_size) * p.extent.length);
      source_program<Source>::run(p, s.source, heads, scratch);
      const auto scores = p.b.global(heads, static_cast<offset_t>(p.row.group_size) * p.row.length);
      const auto to = p.b.global(out, p.row.length);
      reduce_heads<Stage>(
          p.b, p.row.length, p.row.group_size,
          [&](int t, index_t h, index_t j) { return scores.load(t, static_cast<offset_t>(h) * p.row.length + j); },
          [&](int t, index_t j, float all) { to.store(t, j, all); });
      p.b.sync();
    } else {
      source_program<Source>::run(p, s.source, out, scratch);
      if constexpr (!Stage::reduces_group) {
        const index_t heads = Source::per_query_head ? p.row.group_size : 1;
        KVEVICT_ROLLED for (index_t h = 0; h < heads; ++h)
            stage_program<Stage>::run(p, s.stage, out + static_cast<offset_t>(h) * p.row.length, scratch);
      }
    }
  }
};

}  // namespace kvevict::detail
