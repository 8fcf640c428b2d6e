// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/core/workspace.hpp>
#include <kvevict/score/scorer.hpp>

/// How the CPU runs a source or a stage, one row at a time. Specialised under cpu/score/ for every description of
/// score/; a source of the user's own needs no specialisation if it has the member
///
///     void score_row(const Inputs& in, const row_context& row, float* out) const      out [length]
namespace kvevict::detail {

/// What scratch memory depends on.
struct scratch_extent {
  index_t length = 0;
  index_t group_size = 1;
  index_t key_dims = 0;
  index_t value_dims = 0;
  bool log_sum_exp = false;  ///< whether the inputs have it
};

/// Sources:  check(s, in, row)                  bad input that only this source can see
///           plan(s, extent, scratch)           takes from `scratch` what `run` will take for rows up to `extent`
///           run(s, in, row, extent, out, scratch)
template <class Source>
struct source_kernel {
  template <class Inputs>
  static status check(const Source&, const Inputs&, const score::row_context&) {
    return {};
  }
  static void plan(const Source&, const scratch_extent&, carver&) {}
  template <class Inputs>
  static void run(const Source& s, const Inputs& in, const score::row_context& row, const scratch_extent&, float* out,
                  carver) {
    static_assert(!Source::per_query_head, "kvevict: a scorer of one's own gives scores per kv_head");
    s.score_row(in, row, out);
  }
};

template <class Source>
using kernel_for = source_kernel<std::remove_cvref_t<Source>>;

/// Stages: the same; `run` changes scores[heads][length] in place, except that a group reduction reads them and
/// writes its own `out`.
template <class Stage>
struct stage_kernel;

template <class Source, class Stage>
struct source_kernel<score::pipe<Source, Stage>> {
  using pipe = score::pipe<Source, Stage>;

  template <class Inputs>
  static status check(const pipe& p, const Inputs& in, const score::row_context& row) {
    const status first = source_kernel<Source>::check(p.source, in, row);
    return first.ok() ? stage_kernel<Stage>::check(p.stage, in, row) : first;
  }

  static void plan(const pipe& p, const scratch_extent& extent, carver& scratch) {
    carver first = scratch, second = scratch;  // source and stage use the same bytes one after the other
    if constexpr (Stage::reduces_group) first.take<float>(static_cast<offset_t>(extent.group_size) * extent.length);
    source_kernel<Source>::plan(p.source, extent, first);
    stage_kernel<Stage>::plan(p.stage, extent, second);
    scratch = first.bytes() > second.bytes() ? first : second;
  }

  template <class Inputs>
  static void run(const pipe& p, const Inputs& in, const score::row_context& row, const scratch_extent& extent,
                  float* out, carver scratch) {
    if constexpr (Stage::reduces_group) {
      float* heads = scratch.take<float>(static_cast<offset_t>(extent.group_size) * extent.length);
      source_kernel<Source>::run(p.source, in, row, extent, heads, scratch);
      stage_kernel<Stage>::run(p.stage, row, heads, out);
    } else {
      source_kernel<Source>::run(p.source, in, row, extent, out, scratch);
      const index_t heads = Source::per_query_head ? row.group_size : 1;
      for (index_t h = 0; h < heads; ++h)
        stage_kernel<Stage>::run(p.stage, in, row, extent, out + static_cast<offset_t>(h) * row.length, scratch);
    }
  }
};

/// Base of stage kernels: nothing to check, no scratch.
template <class Stage>
struct plain_stage {
  template <class Inputs>
  static status check(const Stage&, const Inputs&, const score::row_context&) {
    return {};
  }
  static void plan(const Stage&, const scratch_extent&, carver&) {}
};

}  // namespace kvevict::detail
