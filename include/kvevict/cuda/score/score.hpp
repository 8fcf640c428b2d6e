// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/core/ragged.hpp>
#include <kvevict/cuda/score/combine.hpp>
#include <kvevict/cuda/score/group.hpp>
#include <kvevict/cuda/score/keys.hpp>
#include <kvevict/cuda/score/pool.hpp>
#include <kvevict/cuda/score/position.hpp>
#include <kvevict/cuda/score/prior.hpp>
#include <kvevict/cuda/score/slot_passes.hpp>
#include <kvevict/policy/plan.hpp>
#include <kvevict/policy/policy.hpp>
#include <kvevict/view/check.hpp>

/// Runs a scorer over all rows, a block per row, after the passes over their slots. One source for the device and for
/// tests (detail/block.hpp).
namespace kvevict::detail {

/// What the kernels that score work on. Parts of a policy are values made on the host; all memory is the device's.
template <class Scorer, class Rule, class Inputs, class Out = ragged<float>>
struct score_task {
  Scorer scorer;
  Rule rule;
  protect protection;
  Inputs in;
  Out out;                       ///< a ragged array whose offsets match the lengths of the rows, or what reads alike
  program_extent extent;         ///< of the longest row
  std::byte* scratch = nullptr;  ///< `scratch_bytes` for every row
  offset_t scratch_bytes = 0;    ///< `program_scratch_bytes`
  bool whole_rows = true;        ///< also rows that the budget covers, of which all slots stay whatever their scores
  index_t blocks_per_layer = 1;  ///< blocks of the grid of `mean_of_layer` that share a (layer, sequence)
};

/// What the programs of these inputs depend on; the columns are missing.
template <class Inputs>
[[nodiscard]] program_extent extent_on_device(const Inputs& in, index_t longest) {
  return {.length = longest, .group_size = group_size(in), .key_dims = in.cache.keys().dims()};
}

/// Scratch memory of a row's program in bytes.
template <class Scorer>
[[nodiscard]] offset_t program_scratch_bytes(const Scorer& scorer, const program_extent& extent) {
  carver count;
  source_program<Scorer>::plan(scorer, extent, count);
  return count.bytes();
}

/// The task of a policy, made on the host: members of a policy are not device functions. The scratch memory is missing.
template <eviction_policy Policy, class Inputs, class Out>
[[nodiscard]] auto score_task_of(const Policy& policy, const Inputs& in, const Out& out, const program_extent& extent) {
  using scorer = std::remove_cvref_t<decltype(policy.scorer())>;
  using rule = std::remove_cvref_t<decltype(policy.rule())>;
  score_task<scorer, rule, Inputs, Out> task{policy.scorer(), policy.rule(), policy.protection(), in, out, extent};
  task.scratch_bytes = program_scratch_bytes(task.scorer, extent);
  return task;
}

/// Scores of a row, by one block. Needs `program_memory_bytes` of shared memory.
template <class Block, class Scorer, class Rule, class Inputs, class Out>
KVEVICT_HOST_DEVICE void score_row(Block& b, const score_task<Scorer, Rule, Inputs, Out>& task, const row_id& row) {
  const auto shared = program_memory<Block>::take(b);
  const cache_shape shape = task.in.cache.shape();
  const index_t length = task.in.cache.length(row);
  const row_plan plan = plan_row(task.rule, task.protection, shape, row, length, budget_length(task.in, row, length));
  if (plan.whole && !task.whole_rows) return;
  const score::row_context context{row,
                                   length,
                                   tokens_seen(task.in, row, length),
                                   plan.nominal,
                                   plan.kept.sinks,
                                   plan.kept.recent,
                                   task.extent.group_size};
  const row_program<Block, Inputs> program{b, task.in, task.extent, context, shared};
  source_program<Scorer>::run(program, task.scorer, task.out[row.index].data,
                              carver(task.scratch + row.index * task.scratch_bytes));
}

/// The kernel: of the row that the block has.
template <class Block, class Task>
KVEVICT_HOST_DEVICE void score_row(Block& b, const Task& task) {
  score_row(b, task, task.in.cache.shape().row(b.index()));
}

/// Where the scorer ends in `score::layer_mean`: the mean over the kv_heads of a (layer, sequence), given to each of
/// them. Bit for bit what the CPU gives; number `part` of `parts` of the slots.
template <class Block, class Task>
KVEVICT_HOST_DEVICE void mean_of_layer(Block& b, const Task& task, index_t layer_and_seq, index_t part, index_t parts) {
  const cache_shape shape = task.in.cache.shape();
  const index_t heads = shape.kv_heads, first = layer_and_seq * heads;
  const index_t length = task.in.cache.length(shape.row(first));
  reduce_heads<score::group_mean>(
      b, length, heads, [&](int, index_t h, index_t j) { return task.out[first + h][j]; },
      [&](int, index_t j, float mean) {
        KVEVICT_ROLLED for (index_t h = 0; h < heads; ++h) task.out[first + h][j] = mean;
      },
      part, parts);
}

/// The kernel, of layers * seqs * blocks_per_layer blocks, after all rows are scored.
template <class Block, class Task>
KVEVICT_HOST_DEVICE void mean_of_layer(Block& b, const Task& task) {
  mean_of_layer(b, task, b.index() / task.blocks_per_layer, b.index() % task.blocks_per_layer, task.blocks_per_layer);
}

}  // namespace kvevict::detail
