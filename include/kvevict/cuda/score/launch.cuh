// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/detail/alignment.hpp>
#include <kvevict/cuda/detail/launch.cuh>
#include <kvevict/cuda/score/attention_stream.hpp>
#include <kvevict/cuda/score/given.hpp>
#include <kvevict/cuda/score/mma_products.hpp>
#include <kvevict/cuda/score/score.hpp>
#include <kvevict/cuda/score/wgmma_products.hpp>
#include <kvevict/view/check.hpp>

/// Puts the kernels of a scorer into a stream: those of its attention, then the program of every row.
namespace kvevict::detail {

inline constexpr int attention_threads = 256, program_threads = 256, mean_threads = 256;

/// The part of that kind, or that it is not given.
template <input_kind Kind, class Inputs>
[[nodiscard]] constexpr auto part_or_none(const Inputs& in) {
  if constexpr (Inputs::template has<Kind>)
    return in.template get<Kind>();
  else
    return not_given{};
}

/// How the blocks of attention divide a row: as many as fill a large device twice, but none without a tile.
[[nodiscard]] constexpr index_t attention_blocks_per_row(offset_t rows, index_t longest) {
  const offset_t tiles = (static_cast<offset_t>(longest) + attention_threads - 1) / attention_threads;
  return static_cast<index_t>(greatest<offset_t>(1, least(tiles, (2048 + rows - 1) / rows)));
}

/// Memory of the device for the scores of a call.
struct score_memory {
  offset_t* offsets = nullptr;  ///< [rows + 1]
  float* columns = nullptr;     ///< [rows][group_size][longest], where a scorer reads attention
  softmax_parts parts{};
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
    m.columns = from.take<float>(rows * extent.group_size * longest);
    const auto source = attention_of(scorer);
    using source_type = std::remove_const_t<decltype(source)>;
    if constexpr (!attention_is_given<source_type, Inputs> &&
                  !(source_type::gain_type::plain && Inputs::template has<input_kind::log_sum_exp>))
      if (!sums_are_given(source, in))
        m.parts = softmax_parts::take(
            from, rows, attention_blocks_per_row(rows, longest),
            softmax_parts::columns_of(extent.group_size, most_query_rows(in, source.window, longest)));
  }
  m.scratch = from.take<std::byte>(rows * program_scratch_bytes(scorer, extent));
  return m;
}

/// Kernels that multiply in fp32, on all architectures.
struct plain_products {
  template <class Block, class Task>
  __device__ static void sums(Block& b, const Task& task) {
    attention_sums<fma_products>(b, task);
  }
  template <class Block, class Task>
  __device__ static void columns(Block& b, const Task& task) {
    attention_columns<fma_products>(b, task);
  }
  [[nodiscard]] static constexpr offset_t sums_bytes(bool /*sm_90*/) {
    return attention_sums_bytes<fma_products>(attention_threads);
  }
  [[nodiscard]] static constexpr offset_t columns_bytes(bool /*sm_90*/) {
    return attention_columns_bytes<fma_products>(attention_threads);
  }
};

/// Kernels that multiply on tensor cores, those of the architecture that they are compiled for. 256 dims are not left
/// to warpgroups, for which there are not enough registers.
template <class Element, int Dims>
struct tensor_products {
  using warps = mma_products<Element, Dims>;
  using warpgroups = wgmma_products<Element, Dims>;
  using stream = wgmma_products<Element, Dims, 4>;
  static constexpr bool for_warpgroups = Dims < 256;

  template <class Block, class Task>
  __device__ static void sums(Block& b, const Task& task) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    if constexpr (for_warpgroups) return attention_sums<warpgroups>(b, task);
#endif
    attention_sums<warps>(b, task);
  }
  template <class Block, class Task>
  __device__ static void columns(Block& b, const Task& task) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    if constexpr (for_warpgroups) {
      if (task.row(b.index() / task.blocks_per_row).columns > stream::columns)
        return attention_stream<stream>(b, task);
      else
        return attention_columns<warpgroups>(b, task);
    }
#endif
    attention_columns<warps>(b, task);
  }
  /// Shared memory in bytes, by whether the code is for sm_90: maybe for sm_90a, which only it knows.
  [[nodiscard]] static constexpr offset_t sums_bytes(bool sm_90) {
    const offset_t least_of_all = attention_sums_bytes<warps>(attention_threads);
    return sm_90 && for_warpgroups ? greatest(least_of_all, attention_sums_bytes<warpgroups>(attention_threads))
                                   : least_of_all;
  }
  [[nodiscard]] static constexpr offset_t columns_bytes(bool sm_90) {
    const offset_t least_of_all = attention_columns_bytes<warps>(attention_threads);
    return sm_90 && for_warpgroups ? greatest(least_of_all, attention_stream_bytes<stream>(attention_threads))
                                   : least_of_all;
  }
};

template <class Products, class Task>
struct sums_body {
  Task task;
  template <class Block>
  __device__ void operator()(Block& b) const {
    Products::sums(b, task);
  }
};
template <class Task>
struct join_body {
  Task task;
  template <class Block>
  __device__ void operator()(Block& b) const {
    attention_join(b, task);
  }
};
template <class Products, class Task>
struct columns_body {
  Task task;
  template <class Block>
  __device__ void operator()(Block& b) const {
    Products::columns(b, task);
  }
};
template <class Task>
struct given_body {
  Task task;
  template <class Block>
  __device__ void operator()(Block& b) const {
    given_columns(b, task);
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

/// Launches a kernel with as much shared memory as bytes_of(sm_90) says for what it was compiled for.
template <class Body>
[[nodiscard]] status launch_multiplying(const gpu& on, offset_t blocks, offset_t (*bytes_of)(bool), const Body& body) {
  cudaFuncAttributes attributes{};
  const status s = status_of(cudaFuncGetAttributes(&attributes, &run_kernel<attention_threads, Body>));
  return s.ok() ? launch<attention_threads>(on, blocks, bytes_of(attributes.binaryVersion == 90), body) : s;
}

template <class Products, class Task>
[[nodiscard]] status launch_attention(const gpu& on, Task task) {
  const offset_t blocks = task.cache.shape().rows() * task.blocks_per_row;
  if constexpr (!Task::known) {
    const status s = launch_multiplying(on, blocks, &Products::sums_bytes, sums_body<Products, Task>{task});
    if (!s.ok()) return s;
    // A few parts of a few columns are joined by every block that asks for them.
    if (task.blocks_per_row > 4 || (task.blocks_per_row > 1 && task.parts.columns > 128)) {
      if (const status j = launch<attention_threads>(on, blocks, 0, join_body<Task>{task}); !j.ok()) return j;
      task.parts.joined = true;
    }
  }
  return launch_multiplying(on, blocks, &Products::columns_bytes, columns_body<Products, Task>{task});
}

/// With tensor cores where elements, alignment and head_dim allow it.
template <class Element, class Task>
[[nodiscard]] status launch_products(const gpu& on, const Task& task) {
  if constexpr (sizeof(Element) == 2 && plain_elements<std::remove_cvref_t<decltype(task.cache.keys())>, Element> &&
                plain_elements<std::remove_cvref_t<decltype(task.queries.entries)>, Element>)
    if (dense_dims(task.cache.keys()) && in_pieces_of(task.cache.keys(), 8) &&
        (!dense_dims(task.queries.entries) || in_pieces_of(task.queries.entries, 8)))
      switch (task.cache.keys().dims()) {
        case 64:
          return launch_attention<tensor_products<Element, 64>>(on, task);
        case 80:
          return launch_attention<tensor_products<Element, 80>>(on, task);
        case 96:
          return launch_attention<tensor_products<Element, 96>>(on, task);
        case 128:
          return launch_attention<tensor_products<Element, 128>>(on, task);
        case 192:
          return launch_attention<tensor_products<Element, 192>>(on, task);
        case 256:
          return launch_attention<tensor_products<Element, 256>>(on, task);
        default:
          break;
      }
  return launch_attention<plain_products>(on, task);
}

template <class Inputs>
[[nodiscard]] column_output columns_out(const gpu& on, const Inputs& in, const score_memory& m) {
  return {m.columns, static_cast<offset_t>(group_size(in)) * on.longest, on.longest};
}

/// From numbers that are given.
template <class Source, class Inputs, class Given>
[[nodiscard]] status launch_given(const gpu& on, const Source& source, const Inputs& in, const Given& given,
                                  const score_memory& m) {
  const auto positions = part_or_none<input_kind::positions>(in);
  const offset_t rows = in.cache.shape().rows();
  given_task<Source, std::remove_cvref_t<decltype(in.cache)>, Given, std::remove_cvref_t<decltype(positions)>> task{
      source, in.cache, given, positions, group_size(in)};
  task.blocks_per_row = attention_blocks_per_row(rows, on.longest);
  task.out = columns_out(on, in, m);
  return launch<attention_threads>(on, rows * task.blocks_per_row, 0, given_body<decltype(task)>{task});
}

/// The nominal budgets of a policy, where the gain of its attention asks for them; else policies share their kernels.
template <class Source, class Policy>
[[nodiscard]] constexpr auto budget_for(const Policy& policy) {
  if constexpr (Source::gain_type::plain)
    return not_given{};
  else
    return rule_budget<decltype(policy.rule())>{policy.rule(), policy.protection()};
}

/// Columns of the attention of all rows, [rows][group_size][longest], from keys and queries.
template <class Policy, class Source, class Inputs>
[[nodiscard]] status launch_attention_of(const gpu& on, const Policy& policy, const Source& source, const Inputs& in,
                                         const score_memory& m) {
  const auto& queries = in.template get<input_kind::queries>();
  const auto lse = part_or_none<input_kind::log_sum_exp>(in);
  const auto positions = part_or_none<input_kind::positions>(in);
  const auto budget = budget_for<Source>(policy);
  attention_task<Source, std::remove_cvref_t<decltype(in.cache)>, std::remove_cvref_t<decltype(queries)>,
                 std::remove_cvref_t<decltype(lse)>, std::remove_cvref_t<decltype(positions)>,
                 std::remove_cvref_t<decltype(budget)>>
      task{source, in.cache, queries, lse, positions, budget};
  task.group_size = group_size(in);
  task.blocks_per_row = attention_blocks_per_row(in.cache.shape().rows(), on.longest);
  task.parts = m.parts;
  task.out = columns_out(on, in, m);
  return launch_products<element_of<std::remove_cvref_t<decltype(in.cache.keys())>>>(on, task);
}

/// Columns of the attention of all rows, [rows][group_size][longest].
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
                                   const score_memory& m, bool whole_rows) {
  const auto scorer = policy.scorer();
  using scorer_type = std::remove_cvref_t<decltype(scorer)>;
  const cache_shape shape = in.cache.shape();
  program_extent extent = extent_on_device(in, on.longest);
  extent.columns = m.columns;
  status result{};
  if constexpr (attention_sources<scorer_type> != 0) result = launch_columns(on, policy, attention_of(scorer), in, m);
  if (!result.ok()) return result;
  auto task = score_task_of(policy, in, out, extent);
  task.scratch = m.scratch;
  task.whole_rows = whole_rows;
  result = launch<program_threads>(on, shape.rows(), program_memory_bytes, program_body<decltype(task)>{task});
  if constexpr (score::layer_wide<scorer_type>)
    if (result.ok())
      result = launch<mean_threads>(on, static_cast<offset_t>(shape.layers) * shape.seqs, 0,
                                    mean_body<decltype(task)>{task});
  return result;
}

}  // namespace kvevict::detail
