// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/score/kernel.hpp>

/// What slots need that asks nothing of the other slots of their row, or sums of few: reading entries. It comes before
/// the programs of the rows, in kernels of its own where many blocks share a row; a block that has the whole row does
/// it itself. Rows that are kept whole are not left out, as by attention. A pass is
///
///     take(numbers, from, rows, extent)       takes from the workspace what it leaves to others
///     warps(extent)                           that have something to do in the longest row
///     run(b, in, extent, row, part, parts)    number `part` of `parts` of a row, by one block; what it writes has the
///                                             same bits however many parts there are
namespace kvevict::detail {

/// Base of passes; what most have.
struct slot_pass {
  static constexpr int blocks_together = 3;  ///< of a multiprocessor: enough loads on their way for any memory
  static void take(slot_numbers&, carver&, offset_t, const program_extent&) {}
  [[nodiscard]] static constexpr offset_t warps(const program_extent& extent) {
    return (static_cast<offset_t>(extent.length) + warp_threads - 1) / warp_threads;
  }
};

/// The passes of a scorer, in their order.
template <class... Passes>
struct slot_passes {
  template <class... More>
  [[nodiscard]] friend constexpr slot_passes<Passes..., More...> operator+(slot_passes, slot_passes<More...>) {
    return {};
  }
  /// On the host.
  template <class F>
  static constexpr void each(const F& f) {
    (f(Passes{}), ...);
  }
  /// All of a row, by one block.
  template <class Block, class Inputs>
  KVEVICT_HOST_DEVICE static void run(Block& b, const Inputs& in, const program_extent& extent, const row_id& row) {
    ((Passes::run(b, in, extent, row, 0, 1), b.sync()), ...);
  }
};

/// Those of a source or a stage, with these inputs. Specialised beside its program.
template <class Description, class Inputs>
inline constexpr auto passes_of = slot_passes<>{};
template <class Source, class Stage, class Inputs>
inline constexpr auto passes_of<score::pipe<Source, Stage>, Inputs> =
    passes_of<Source, Inputs> + passes_of<Stage, Inputs>;
template <class A, class B, class Inputs>
inline constexpr auto passes_of<score::product<A, B>, Inputs> = passes_of<A, Inputs> + passes_of<B, Inputs>;
template <class A, class B, class Inputs>
inline constexpr auto passes_of<score::weighted_sum<A, B>, Inputs> = passes_of<A, Inputs> + passes_of<B, Inputs>;

/// Memory for what the passes of a scorer leave.
template <class Scorer, class Inputs>
slot_numbers take_slot_numbers(carver& from, const Scorer&, const Inputs&, offset_t rows,
                               const program_extent& extent) {
  slot_numbers numbers{};
  passes_of<Scorer, Inputs>.each([&](const auto& pass) { pass.take(numbers, from, rows, extent); });
  return numbers;
}

/// What the kernel of a pass works on. All memory is the device's.
template <class Pass, class Inputs>
struct pass_task {
  Inputs in;
  program_extent extent;
  index_t blocks_per_row = 1;  ///< blocks of the grid that share a row
};

/// The kernel, of rows * blocks_per_row blocks.
template <class Block, class Pass, class Inputs>
KVEVICT_HOST_DEVICE void run_pass(Block& b, const pass_task<Pass, Inputs>& task) {
  Pass::run(b, task.in, task.extent, task.in.cache.shape().row(b.index() / task.blocks_per_row),
            b.index() % task.blocks_per_row, task.blocks_per_row);
}

}  // namespace kvevict::detail
