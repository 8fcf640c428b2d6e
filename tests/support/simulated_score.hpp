// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/score/score.hpp>

#include "simulated_block.hpp"
#include "storage.hpp"

/// The kernels of a scorer on the host, in the order in which an entry point launches them, but for those of attention.
namespace simulated {

/// How they are launched.
struct launched {
  int threads = 64;
  std::uint32_t seed = 1;
  index_t blocks = 1;  ///< that share a row
  bool whole_rows = true;
};

/// Where the columns go that attention gives to rows whose scores go to `to`.
struct columns {
  kvevict::detail::column_output out;
  std::vector<float> memory;

  template <class Policy, class Inputs>
  columns(const Policy& policy, const Inputs& in, index_t longest, const kvevict::ragged<float>& to) {
    using scorer = std::remove_cv_t<decltype(policy.scorer())>;
    out = kvevict::detail::column_output::of(kvevict::detail::columns_of<scorer>.as, group_size(in), longest);
    if (kvevict::detail::columns_in_place<scorer>) {
      out.data = to.data;
      out.offsets = to.offsets;
    } else {
      memory.resize(std::size_t(in.cache.shape().rows() * out.row), NAN);
      out.data = memory.data();
    }
  }
};

/// Scores of all rows into `out`.
template <class Policy, class Inputs, class Out>
void score(const Policy& policy, const Inputs& in, const Out& out, index_t longest,
           const kvevict::detail::column_output& columns, const launched& how) {
  namespace detail = kvevict::detail;
  const auto scorer = policy.scorer();
  using scorer_type = std::remove_cv_t<decltype(scorer)>;
  const kvevict::cache_shape shape = in.cache.shape();
  const auto rows = index_t(shape.rows());
  detail::program_extent extent = detail::extent_on_device(in, longest);
  extent.columns = columns;
  kvevict::carver count;
  detail::take_slot_numbers(count, scorer, in, rows, extent);
  host::scratch numbers(count.bytes());
  kvevict::carver place(numbers.get().data);
  extent.numbers = detail::take_slot_numbers(place, scorer, in, rows, extent);
  std::uint32_t turn = how.seed;
  detail::passes_of<scorer_type, Inputs>.each([&]<class Pass>(const Pass&) {
    const detail::pass_task<Pass, Inputs> task{in, extent, how.blocks};
    run_grid(rows * how.blocks, how.threads, 0, ++turn, [&](block& b) { detail::run_pass(b, task); });
  });
  auto task = detail::score_task_of(policy, in, out, extent);
  host::scratch scratch(task.scratch_bytes * rows);
  task.scratch = scratch.get().data;
  task.whole_rows = how.whole_rows;
  task.blocks_per_layer = how.blocks;
  run_grid(rows, how.threads, detail::program_memory_bytes, how.seed, [&](block& b) { detail::score_row(b, task); });
  if constexpr (kvevict::score::layer_wide<scorer_type>)
    run_grid(shape.layers * shape.seqs * how.blocks, how.threads, 0, how.seed,
             [&](block& b) { detail::mean_of_layer(b, task); });
}

}  // namespace simulated
