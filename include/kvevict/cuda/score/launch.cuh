// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/score/given.hpp>
#include <kvevict/cuda/score/launch_products.cuh>
#include <kvevict/cuda/score/score.hpp>
#include <kvevict/view/check.hpp>

/// Puts the kernels of a scorer into a stream: those of its attention, its passes over slots, then the program of every
/// row.
namespace kvevict::detail {

inline constexpr int pass_threads = 256, program_threads = 1024, mean_threads = 256;

/// The part of that kind, or that it is not given.
template <input_kind Kind, class Inputs>
[[nodiscard]] constexpr auto part_or_none(const Inputs& in) {
  if constexpr (Inputs::template has<Kind>)
    return in.template get<Kind>();
  else
    return not_given{};
}

/// How blocks divide a row in which so many of them find something to do: `enough` for the whole device.
[[nodiscard]] constexpr index_t blocks_per_row(offset_t rows, offset_t busy, offset_t enough) {
  return static_cast<index_t>(greatest<offset_t>(1, least(busy, (enough + rows - 1) / rows)));
}
/// Those of columns and means, with a slot per thread at a time.
[[nodiscard]] constexpr index_t column_blocks_per_row(offset_t rows, index_t longest, offset_t enough = 2048) {
  return blocks_per_row(rows, (static_cast<offset_t>(longest) + attention_threads - 1) / attention_threads, enough);
}
/// Those of attention: each fetches the queries anew, and a multiprocessor may have room for one. So no more than fill
/// a large device four times, which leaves a small part of it idle at the end.
[[nodiscard]] constexpr index_t attention_blocks_per_row(offset_t rows, index_t longest) {
  return column_blocks_per_row(rows, longest, 512);
}
/// Those of a pass: the last to end shall be a small part of them.
template <class Pass>
[[nodiscard]] constexpr index_t pass_blocks_per_row(offset_t rows, const program_extent& extent) {
  constexpr offset_t warps = pass_threads / warp_threads;
  return blocks_per_row(rows, (Pass::warps(extent) + warps - 1) / warps, 8192);
}

/// Memory of the device for the scores of a call.
struct score_memory {
  offset_t* offsets = nullptr;  ///< [rows + 1]
  column_output columns{};      ///< where a scorer reads attention; in place where `launch_scorer` says
  softmax_parts parts{};
  slot_numbers numbers{};
  std::byte* scratch = nullptr;  ///< of the programs of all rows
};

/// The most query rows that a row of the cache can have, as far as the host knows.
template <class Inputs>
[[nodiscard]] index_t most_query_rows(const Inputs& in, index_t window, index_t longest) {
  const row_lengths& rows = in.template get<input_kind::queries>().rows;
  return rows.each != nullptr ? least(window, longest) : least(window, rows.all);
}

template <class Scorer, class Inputs>
[[nodiscard]] score_memory take_score_memory(carver& from, const Scorer& scorer, const Inputs& in, index_t longest) {
  const offset_t rows = in.cache.shape().rows();
  const program_extent extent = extent_on_device(in, longest);
  score_memory m{};
  m.offsets = from.take<offset_t>(rows + 1);
  if constexpr (attention_sources<Scorer> != 0) {
    m.columns = take_columns<Scorer>(from, rows, extent, nullptr);
    const auto source = attention_of(scorer);
    using source_type = std::remove_const_t<decltype(source)>;
    if constexpr (!attention_is_given<source_type, Inputs> &&
                  !(source_type::gain_type::plain && Inputs::template has<input_kind::log_sum_exp>))
      if (!sums_are_given(source, in))
        m.parts = softmax_parts::take(
            from, rows, attention_blocks_per_row(rows, longest),
            softmax_parts::columns_of(extent.group_size, most_query_rows(in, source.window, longest)));
  }
  m.numbers = take_slot_numbers(from, scorer, in, rows, extent);
  m.scratch = from.take<std::byte>(rows * program_scratch_bytes(scorer, extent));
  return m;
}

template <class Task>
struct given_body {
  Task task;
  static constexpr int blocks_together = 3;
  template <class Block>
  __device__ void operator()(Block& b) const {
    given_columns(b, task);
  }
};
template <class Pass, class Inputs>
struct pass_body {
  pass_task<Pass, Inputs> task;
  static constexpr int blocks_together = Pass::blocks_together;
  template <class Block>
  __device__ void operator()(Block& b) const {
    run_pass(b, task);
  }
};
template <class Task>
struct program_body {
  Task task;
  template <class Block>
  __device__ void operator()(Block& b) const {
    score_row(b, task);
  }
};
template <class Task>
struct mean_body {
  Task task;
  template <class Block>
  __device__ void operator()(Block& b) const {
    mean_of_layer(b, task);
  }
};
template <class Inputs>
struct lay_out_body {
  Inputs in;
  offset_t* offsets;
  index_t* budget_lengths;
  template <class Block>
  __device__ void operator()(Block& b) const {
    lay_out_rows(b, in, offsets, budget_lengths);
  }
};

/// From numbers that are given.
template <class Source, class Inputs, class Given>
[[nodiscard]] status launch_given(const gpu& on, const Source& source, const Inputs& in, const Given& given,
                                  const score_memory& m) {
  const auto positions = part_or_none<input_kind::positions>(in);
  const offset_t rows = in.cache.shape().rows();
  given_task<Source, std::remove_cvref_t<decltype(in.cache)>, Given, std::remove_cvref_t<decltype(positions)>> task{
      source, in.cache, given, positions, group_size(in)};
  task.blocks_per_row = column_blocks_per_row(rows, on.longest);
  task.out = m.columns;
  return launch<attention_threads>(on, rows * task.blocks_per_row, 0, given_body<decltype(task)>{task});
}

/// Columns of the attention of all rows, from keys and queries.
template <class Policy, class Source, class Inputs>
[[nodiscard]] status launch_attention_of(const gpu& on, const Policy& policy, const Source& source, const Inputs& in,
                                         const score_memory& m) {
  const auto& queries = in.template get<input_kind::queries>();
  const auto lse = part_or_none<input_kind::log_sum_exp>(in);
  const auto positions = part_or_none<input_kind::positions>(in);
  const auto budget = budget_for<Source>(policy.rule(), policy.protection());
  attention_task<Source, std::remove_cvref_t<decltype(in.cache)>, std::remove_cvref_t<decltype(queries)>,
                 std::remove_cvref_t<decltype(lse)>, std::remove_cvref_t<decltype(positions)>,
                 std::remove_cvref_t<decltype(budget)>>
      task{source, in.cache, queries, lse, positions, budget};
  task.group_size = group_size(in);
  task.blocks_per_row = attention_blocks_per_row(in.cache.shape().rows(), on.longest);
  task.parts = m.parts;
  task.out = m.columns;
  return launch_products<element_of<std::remove_cvref_t<decltype(in.cache.keys())>>>(on, task);
}

/// Columns of the attention of all rows.
template <class Policy, class Source, class Inputs>
[[nodiscard]] status launch_columns(const gpu& on, const Policy& policy, const Source& source, const Inputs& in,
                                    const score_memory& m) {
  if constexpr (Inputs::template has<input_kind::attention_sums>)
    if (sums_are_given(source, in))
      return launch_given(on, source, in, in.template get<input_kind::attention_sums>(), m);
  if constexpr (attention_is_given<Source, Inputs>)
    return launch_given(on, source, in, in.template get<input_kind::attention>(), m);
  else
    return launch_attention_of(on, policy, source, in, m);
}

/// Scores of all rows into out, whose offsets have been laid out.
template <class Policy, class Inputs>
[[nodiscard]] status launch_scorer(const gpu& on, const Policy& policy, const Inputs& in, const ragged<float>& out,
                                   score_memory m, bool whole_rows) {
  const auto scorer = policy.scorer();
  using scorer_type = std::remove_cvref_t<decltype(scorer)>;
  const cache_shape shape = in.cache.shape();
  if constexpr (columns_in_place<scorer_type>) {
    m.columns.data = out.data;
    m.columns.offsets = out.offsets;
  }
  program_extent extent = extent_on_device(in, on.longest);
  extent.columns = m.columns;
  extent.numbers = m.numbers;
  status result{};
  if constexpr (attention_sources<scorer_type> != 0) result = launch_columns(on, policy, attention_of(scorer), in, m);
  passes_of<scorer_type, Inputs>.each([&]<class Pass>(const Pass&) {
    if (!result.ok()) return;
    const pass_task<Pass, Inputs> pass{in, extent, pass_blocks_per_row<Pass>(shape.rows(), extent)};
    result = launch<pass_threads>(on, shape.rows() * pass.blocks_per_row, 0, pass_body<Pass, Inputs>{pass});
  });
  if (!result.ok()) return result;
  auto task = score_task_of(policy, in, out, extent);
  task.scratch = m.scratch;
  task.whole_rows = whole_rows;
  result = launch<program_threads>(on, shape.rows(), program_memory_bytes, program_body<decltype(task)>{task});
  if constexpr (score::layer_wide<scorer_type>) {
    const offset_t layers = static_cast<offset_t>(shape.layers) * shape.seqs;
    task.blocks_per_layer = column_blocks_per_row(layers, on.longest);
    if (result.ok())
      result = launch<mean_threads>(on, layers * task.blocks_per_layer, 0, mean_body<decltype(task)>{task});
  }
  return result;
}

}  // namespace kvevict::detail
