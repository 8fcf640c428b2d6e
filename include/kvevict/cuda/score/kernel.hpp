// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/core/workspace.hpp>
#include <kvevict/cuda/detail/digits.hpp>
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

/// What scratch memory depends on, and what other kernels have left for this one.
struct program_extent {
  index_t length = 0;              ///< slots of the longest row
  index_t group_size = 1;          ///< query_heads per kv_head
  index_t key_dims = 0;            ///< of an entry
  const float* columns = nullptr;  ///< [rows][group_size][length]: what `score::attention` gives every row
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
    p.each(p.row.length, [&](int t, index_t j) { scores.store(t, j, s.score_slot(p.in, p.row, j)); });
    p.b.sync();
  }
};

/// Stages: the same; `run(program, s, scores, scratch)` changes scores[length] in place, except that a group reduction
/// is `run(program, s, head, out)` with head(thread, h, slot) a score of query_head h.
template <class Stage>
struct stage_program;

/// Base of stages without scratch.
template <class Stage>
struct plain_stage_program {
  static void plan(const Stage&, const program_extent&, carver&) {}
};

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
  /// Those of one row, [group_size][extent.length].
  template <class Program>
  [[nodiscard]] KVEVICT_HOST_DEVICE static const float* columns(const Program& p) {
    return p.extent.columns + static_cast<offset_t>(p.row.row.index) * p.extent.group_size * p.extent.length;
  }
  template <class Program>
  KVEVICT_HOST_DEVICE static void run(const Program& p, const attention&, float* out, carver) {
    const float* const from = columns(p);
    const auto scores = p.b.global(out, static_cast<offset_t>(p.row.group_size) * p.row.length);
    KVEVICT_ROLLED for (index_t h = 0; h < p.row.group_size; ++h) p.each(p.row.length, [&](int t, index_t j) {
      scores.store(t, static_cast<offset_t>(h) * p.row.length + j,
                   from[static_cast<offset_t>(h) * p.extent.length + j]);
    });
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
  /// A group reduction reads columns where they are.
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
      stage_program<Stage>::run(
          p, s.stage,
          [&](int t, index_t h, index_t j) { return scores.load(t, static_cast<offset_t>(h) * p.row.length + j); },
          out);
    } else if constexpr (Stage::reduces_group) {
      const float* const from = source_program<Source>::columns(p);
      stage_program<Stage>::run(
          p, s.stage, [&](int, index_t h, index_t j) { return from[static_cast<offset_t>(h) * p.extent.length + j]; },
          out);
    } else {
      source_program<Source>::run(p, s.source, out, scratch);
      const index_t heads = Source::per_query_head ? p.row.group_size : 1;
      KVEVICT_ROLLED for (index_t h = 0; h < heads; ++h)
          stage_program<Stage>::run(p, s.stage, out + static_cast<offset_t>(h) * p.row.length, scratch);
    }
  }
};

}  // namespace kvevict::detail
