// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/core/workspace.hpp>
#include <kvevict/cpu/budget/across_ranks.hpp>
#include <kvevict/cpu/budget/share.hpp>
#include <kvevict/cpu/score/score.hpp>
#include <kvevict/cpu/select/select.hpp>
#include <kvevict/view/row_scores.hpp>

/// How an eviction divides its workspace, and the checks of what it writes to.
namespace kvevict::detail {

/// Keys are held of a row at a time, of the rows that share a budget, or, where those are not neighbours or not all
/// here (pools of the caller's own, ranks), of all rows.
struct held_keys {
  index_t rows = 1;     ///< at a time
  offset_t keys = 0;    ///< most of them
  index_t regions = 1;  ///< a worker's each, or one for all

  template <class Policy, class Length>
  static held_keys of(const Policy& policy, const cache_shape& shape, bool all, index_t workers, const Length& length) {
    constexpr bool joint = decltype(policy.rule())::joint;
    if (!check(shape).ok()) return {};  // which the call refuses
    const auto rows = static_cast<index_t>(shape.rows());
    held_keys held{.rows = !joint ? 1 : all ? rows : shape.kv_heads};
    for (index_t r = 0; r < rows;) {
      offset_t slots = 0;
      for (const index_t end = r + held.rows; r < end; ++r) slots += length(r);
      held.keys = greatest(held.keys, first_of(slots, held.rows));
    }
    if (!joint || rows / held.rows >= workers) held.regions = workers;
    return held;
  }
  /// Where the keys of the r-th row start, `slots` lying before it: whole blocks, with room to fill the last of each
  /// row up.
  static constexpr offset_t first_of(offset_t slots, index_t r) {
    return (slots / scan_block + offset_t{2} * r) * scan_block;
  }
};

/// The parts of a workspace; one function, so that measuring and placing agree.
struct select_memory {
  index_t* budgets;
  std::int32_t* keys;
  held_keys held;
  pool_lists pools;
  std::byte* pool_memory;
  offset_t pool_memory_bytes;

  /// `rows`: of the cache
  template <class Policy>
  static select_memory take(carver& from, const Policy& policy, index_t rows, const held_keys& held, index_t workers) {
    select_memory m{};
    m.budgets = from.take<index_t>(rows);
    m.keys = from.take<std::int32_t>(held.keys * held.regions);
    m.held = held;
    if constexpr (decltype(policy.rule())::joint) {
      m.pools = pool_lists::take(from, rows);
      carver one;
      pool_scratch::take(one, held.rows);
      m.pool_memory_bytes = one.bytes();
      m.pool_memory = from.take<std::byte>(one.bytes() * workers);
    }
    return m;
  }
  template <class Policy>
  static select_memory take(carver& from, const Policy& policy, const row_scores& in, index_t workers) {
    const bool readable = in.scores.offsets != nullptr && in.scores.rows == in.shape.rows();
    const auto length = [&](index_t r) { return readable ? in.scores.length(r) : 0; };
    const auto held = held_keys::of(policy, in.shape, in.pools.pool_of_row != nullptr, workers, length);
    return take(from, policy, in.scores.rows, held, workers);
  }
  /// Keys of row r, where `worker` holds those of the rows from `first` on.
  [[nodiscard]] std::int32_t* keys_of(const ragged<const float>& scores, index_t r, index_t first = 0,
                                      index_t worker = 0) const {
    return keys + worker * held.keys + held_keys::first_of(scores.offsets[r] - scores.offsets[first], r - first);
  }
  [[nodiscard]] pool_scratch scratch_of(index_t worker) const {
    carver place(pool_memory + worker * pool_memory_bytes);
    return pool_scratch::take(place, held.rows);
  }
};

struct score_memory {
  std::byte* scratch;
  offset_t scratch_bytes;

  template <class Scorer>
  static score_memory take(carver& from, const Scorer& scorer, const scratch_extent& extent, index_t workers) {
    carver one;
    kernel_for<Scorer>::plan(scorer, extent, one);
    return {from.take<std::byte>(one.bytes() * workers), one.bytes()};
  }
};

struct evict_memory {
  offset_t* offsets;
  float* scores;
  score_memory score;
  select_memory select;
  rank_scratch ranks;

  template <class Policy, class Inputs>
  static evict_memory take(carver& from, const Policy& policy, const Inputs& in, index_t workers) {
    const cache_shape shape = in.cache.shape();
    const auto rows = static_cast<index_t>(shape.rows());
    const auto length = [&](index_t r) { return in.cache.length(shape.row(r)); };
    offset_t slots = 0;
    for (index_t r = 0; r < rows; ++r) slots += length(r);
    evict_memory m{};
    m.offsets = from.take<offset_t>(rows + 1);
    m.scores = from.take<float>(slots);
    const auto scorer = policy.scorer();
    m.score = score_memory::take(from, scorer, extent_of(in, longest_row(in)), workers);
    const bool all = Inputs::template has<input_kind::ranks> || pools_of(in).pool_of_row != nullptr;
    m.select = select_memory::take(from, policy, rows, held_keys::of(policy, shape, all, workers, length), workers);
    if constexpr (Inputs::template has<input_kind::ranks> && decltype(policy.rule())::joint)
      m.ranks = rank_scratch::take(from, shape, greatest(0, in.template get<input_kind::ranks>().kv_heads));
    return m;
  }
};

}  // namespace kvevict::detail
