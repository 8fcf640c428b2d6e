// SPDX-License-Identifier: MIT
#pragma once

#include "measured.hpp"

/// Steps that work on scores and on what is kept: selection, compaction, and all in one.
namespace measured {

/// Selection of `kept` slots per row from given scores; with joint budgets, on average.
struct selection_run {
  timing time;
  std::vector<float> scores;  ///< [rows][keys], of the input that the result belongs to
  std::vector<offset_t> offsets;
  std::vector<index_t> slots;
};
selection_run measure_selection(index_t layers, index_t keys, bool joint);

/// CUB's segmented sort of the same scores, which is what a top-k by sorting costs at least.
timing measure_segmented_sort(index_t layers, index_t keys);
/// What is to be said of CUB: its version, and whether it has a batched top-k.
std::string about_cub();

/// Compaction of random slots, `kept` per row, bf16 keys and values.
enum class compaction_kind { gather, in_place, swap_fill };
[[nodiscard]] const char* name_of(compaction_kind k);
/// No time where a row does not hold what it should.
std::optional<timing> measure_compaction(compaction_kind kind, index_t layers, index_t keys);
/// A plain copy of the bytes that a compaction keeps.
timing measure_plain_copy(index_t layers);
double compaction_bytes(index_t layers, index_t keys);

/// Scores, joint budgets, selection, gather into a flat cache, and the new lengths: one graph. The scores are read
/// again for the check: what was kept must be what the CPU keeps by them.
struct whole_run {
  std::optional<timing> time;
  selection_run kept;
};
whole_run measure_whole(bool cached_norms, index_t layers, index_t keys);
double whole_bytes(bool cached_norms, index_t layers, index_t keys);

}  // namespace measured
