// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/budget/share.hpp>
#include <kvevict/cuda/compact/gather.hpp>
#include <kvevict/cuda/compact/in_place.hpp>
#include <kvevict/cuda/compact/swap_fill.hpp>
#include <kvevict/cuda/decode/side.hpp>
#include <kvevict/cuda/score/attention.hpp>
#include <kvevict/cuda/score/general_products.hpp>
#include <kvevict/cuda/score/given.hpp>
#include <kvevict/cuda/score/score.hpp>
#include <kvevict/cuda/select/select.hpp>

/// The whole eviction of rows that are full, in one kernel: scores, budgets, selection and compaction. The unit is what
/// must be decided together, a row or the rows that share a budget or a score, and has a team of blocks; where it still
/// has room, they leave at once. One source for the device and for tests (detail/block.hpp).
namespace kvevict::detail {

/// Rows of floats that lie `stride` apart.
struct float_rows {
  float* data = nullptr;
  offset_t stride = 0;
  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr span<float> operator[](index_t row) const {
    return {data + row * stride, stride};
  }
};

/// Half the columns at a time that a kernel of their own multiplies, for want of registers.
using room_products = general_products<2>;

/// Memory of the device for it; every row has room for `longest` slots.
struct room_memory {
  float* scores = nullptr;     ///< [rows][longest]
  index_t* slots = nullptr;    ///< [rows][longest]
  index_t* sources = nullptr;  ///< [rows][longest], where entries are swapped
  index_t* holes = nullptr;    ///< [rows][longest], likewise
  column_output columns{};     ///< where a scorer reads attention
  softmax_parts parts{};       ///< where it multiplies queries
  slot_numbers numbers{};
  std::byte* scratch = nullptr;  ///< of the programs of all rows
  share_memory share{};
};

/// What the kernel works on. `Score` is a score_task that writes float_rows, `Source` the score::attention of its
/// scorer, or not_given; `Order` a token_order where keys and values are swapped, or not_given. All memory is the
/// device's.
template <class Score, class Source, class Moved, class Order, row_feed Feed>
struct room_task {
  Score score;
  Source source;
  decltype(Score::rule) rule;
  device_states<Feed> states;
  Moved moved;
  Order order;
  budget_pool_view pools{};
  cache_shape shape;
  room_memory memory;
  index_t* lengths = nullptr;  ///< [rows], those of the cache
  index_t every = 1;           ///< slots above the budget that make a row full
  index_t longest = 0;

  static constexpr bool joint = decltype(Score::rule)::joint;
  static constexpr bool layer_wide = score::layer_wide<decltype(Score::scorer)>;
  /// Whether queries may have to be multiplied.
  static constexpr bool multiplies = [] {
    if constexpr (std::is_same_v<Source, not_given>)
      return false;
    else
      return !attention_is_given<Source, std::remove_cvref_t<decltype(Score::in)>>;
  }();
  /// Whether more rows than one are decided together.
  static constexpr bool together = joint || layer_wide;

  [[nodiscard]] constexpr bool own_pools() const { return joint && pools.pool_of_row != nullptr; }
  [[nodiscard]] constexpr offset_t units() const {
    if (own_pools()) return pools.pools;
    return together ? static_cast<offset_t>(shape.layers) * shape.seqs : shape.rows();
  }
  [[nodiscard]] KVEVICT_HOST_DEVICE row_plan plan(index_t row) const {
    const row_id id = shape.row(row);
    const index_t length = score.in.cache.length(id);
    return plan_row(rule, score.protection, shape, id, length, budget_length(score.in, id, length));
  }
  [[nodiscard]] KVEVICT_HOST_DEVICE const float* scores_of(index_t row) const { return score.out[row].data; }
  /// Slots of a row above its budget; `unknown` where its state has not seen all of them.
  [[nodiscard]] KVEVICT_HOST_DEVICE index_t above_budget(index_t row) const {
    const row_id id = shape.row(row);
    if (lengths[row] < 1 || lengths[row] > longest || states[id.seq].length(id) != lengths[row]) return unknown;
    const row_plan p = plan(row);
    return p.possible() ? p.length - p.nominal : 0;  // one whose budget is impossible is kept whole
  }
  static constexpr index_t unknown = -0x7fffffff - 1;
};

/// The rows of the team's unit.
template <class Block, class Task>
[[nodiscard]] KVEVICT_HOST_DEVICE pool_rows_on_device unit_rows(Block& b, const Task& task) {
  if constexpr (Task::joint) {
    const auto words = b.template shared<index_t>(warp_threads);
    return list_pool(b, task.pools, task.shape, task.memory.share.members, words);
  } else {
    const index_t rows = Task::together ? task.shape.kv_heads : 1;
    return {nullptr, b.index() / b.team_size() * rows, rows};
  }
}

/// Whether a unit is full: together its rows hold `every` slots for each of them above their budgets, or one row does.
template <class Block, class Task>
[[nodiscard]] KVEVICT_HOST_DEVICE bool is_full(Block& b, const Task& task, const pool_rows_on_device& unit) {
  if constexpr (!Task::together) {
    return task.above_budget(unit.row(0)) >= task.every;
  } else {
    const auto words = b.template shared<offset_t>(warp_threads);
    auto above = b.template make_local<offset_t>(), missing = above, before = above;
    b.each([&](int t) {
      above[t] = missing[t] = 0;
      KVEVICT_ROLLED for (index_t i = t; i < unit.count; i += b.threads()) {
        const index_t more = task.above_budget(unit.row(i));
        missing[t] += more == Task::unknown ? 1 : 0;
        above[t] += more;
      }
    });
    const offset_t sum = exclusive_sums<offset_t>(b, above, before, words);
    return exclusive_sums<offset_t>(b, missing, before, words) == 0 &&
           sum > static_cast<offset_t>(task.every - 1) * unit.count;
  }
}

/// What the scorer's attention gives to the slots of a row: from the sums or the rows that the state remembers.
template <class Block, class Task>
KVEVICT_HOST_DEVICE void columns_of_row(Block& b, const Task& task, const row_id& row) {
  using inputs = std::remove_cvref_t<decltype(task.score.in)>;
  using gain = typename std::remove_cvref_t<decltype(task.source)>::gain_type;
  const auto& in = task.score.in;
  const index_t group = task.score.extent.group_size;
  const auto& positions = in.template get<input_kind::positions>();
  const auto give = [&](const auto& from) {
    using given = given_task<std::remove_cvref_t<decltype(task.source)>, std::remove_cvref_t<decltype(in.cache)>,
                             std::remove_cvref_t<decltype(from)>, std::remove_cvref_t<decltype(positions)>>;
    const given rows{task.source, in.cache, from, positions, group, 1, task.memory.columns};
    give_columns(b, rows, row, 0, 1);
  };
  if (task.source.window == score::all_rows) {
    give(in.template get<input_kind::attention_sums>());
  } else if constexpr (gain::plain && inputs::template has<input_kind::attention>) {
    give(in.template get<input_kind::attention>());
  } else {
    const auto& queries = in.template get<input_kind::queries>();
    const auto budget = budget_for<std::remove_cvref_t<decltype(task.source)>>(task.rule, task.score.protection);
    attention_task<std::remove_cvref_t<decltype(task.source)>, std::remove_cvref_t<decltype(in.cache)>,
                   std::remove_cvref_t<decltype(queries)>, not_given, std::remove_cvref_t<decltype(positions)>,
                   std::remove_const_t<decltype(budget)>>
        attention{task.source, in.cache, queries, {}, positions, budget, group};
    attention.parts = task.memory.parts;
    attention.out = task.memory.columns;
    const attention_row multiplied = attention.row(row.index);
    attention_sums<room_products>(b, attention, multiplied, 0);
    b.reuse_shared();
    attention_columns<room_products>(b, attention, multiplied, 0);
  }
}

/// Keys and values of the retained slots into the holes of the front, with the fewest moves.
template <class Block, class Task>
KVEVICT_HOST_DEVICE void swap_entries(Block& b, const Task& task, const row_id& row, index_t length,
                                      const index_t* retained, index_t count) {
  index_t* const sources = task.memory.sources + row.index * static_cast<offset_t>(task.longest);
  index_t* const holes = task.memory.holes + row.index * static_cast<offset_t>(task.longest);
  const auto shared = plan_memory<Block>::take(b);
  const index_t moves = plan_row_swaps(b, task.order, row, length, retained, count, {sources, holes, nullptr}, shared);
  b.sync();
  task.moved.each([&](const auto& m, index_t) {
    by_pieces(m, [&]<class Piece>(const Piece&) {
      auto entries = hold_plain<Piece>(b, m, row, sources, holes, moves, m.pieces);
      move_entries(entries, 0, 1);
    });
  });
}

/// The retained slots of a row, keys, values and state to its front, and its lengths.
template <class Block, class Task>
KVEVICT_HOST_DEVICE void make_room_in(Block& b, const Task& task, const row_id& row) {
  const row_plan plan = task.plan(row.index);
  index_t kept = plan.possible() ? plan.alone() : plan.length;
  row_threshold limit = row_threshold::unknown();
  if constexpr (Task::joint) {
    const auto budgets = b.team(task.memory.share.budgets);
    const auto limits = b.team(task.memory.share.limits);
    auto budget = b.template make_local<index_t>();
    auto of_pool = b.template make_local<row_threshold>();
    b.each([&](int t) {
      budget[t] = budgets.load(t, row.index);
      of_pool[t] = limits.load(t, row.index);
    });
    kept = b.uniform(budget);
    limit = b.uniform(of_pool);
  }
  if (kept >= plan.length) return;
  index_t* const retained = task.memory.slots + row.index * static_cast<offset_t>(task.longest);
  auto shared = selection_memory<Block>::take(b);
  write_retained(b, task.scores_of(row.index), plan, kept, limit, retained, shared);
  b.sync();
  if constexpr (!std::is_same_v<std::remove_cvref_t<decltype(task.order)>, not_given>) {
    swap_entries(b, task, row, plan.length, retained, kept);
  } else {
    task.moved.each([&](const auto& m, index_t) {
      by_pieces(m, [&]<class Piece>(const Piece&) {
        slide_entries(b, hold_plain<Piece>(b, m, row, retained, nullptr, kept, m.pieces), 0);
      });
    });
  }
  retain_in_state(b, task.states, row, retained, kept);
  b.each([&](int t) {
    if (t == 0) b.store(t, task.lengths + row.index, kept);
  });
}

/// Shared memory of `make_room` in bytes, by the threads of a block: what its phases take one after another.
template <class Task>
[[nodiscard]] constexpr offset_t make_room_bytes(int threads) {
  const offset_t phases =
      greatest(program_memory_bytes, selection_memory_bytes + greatest(plan_swaps_bytes, share_pool_bytes));
  return Task::multiplies ? greatest(phases, attention_sums_bytes<room_products>(threads)) : phases;
}

/// The kernel.
template <class Block, class Task>
KVEVICT_HOST_DEVICE void make_room(Block& b, const Task& task) {
  const pool_rows_on_device unit = unit_rows(b, task);
  if (!is_full(b, task, unit)) return;
  const auto own_rows = [&](const auto& f) {
    KVEVICT_ROLLED for (index_t i = b.team_rank(); i < unit.count; i += b.team_size()) f(task.shape.row(unit.row(i)));
  };
  using passes = decltype(passes_of<std::remove_cvref_t<decltype(task.score.scorer)>,
                                    std::remove_cvref_t<decltype(task.score.in)>>);
  own_rows([&](const row_id& row) {
    b.reuse_shared();
    if constexpr (!std::is_same_v<std::remove_cvref_t<decltype(task.source)>, not_given>) columns_of_row(b, task, row);
    b.reuse_shared();
    passes::run(b, task.score.in, task.score.extent, row);
    score_row(b, task.score, row);
  });
  if constexpr (Task::layer_wide) {
    b.team_sync();
    KVEVICT_ROLLED for (index_t i = task.shape.kv_heads * b.team_rank(); i < unit.count;
                        i += task.shape.kv_heads * b.team_size())
        mean_of_layer(b, task.score, unit.row(i) / task.shape.kv_heads, 0, 1);
  }
  if constexpr (Task::together) b.team_sync();
  if constexpr (Task::joint) {
    b.reuse_shared();
    auto shared = selection_memory<Block>::take(b);
    share_pool(b, task, task.memory.share, shared);
    b.team_sync();
  }
  own_rows([&](const row_id& row) {
    b.reuse_shared();
    make_room_in(b, task, row);
  });
}

}  // namespace kvevict::detail
