// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <kvevict/core/workspace.hpp>
#include <kvevict/cuda/detail/fragments.hpp>
#include <kvevict/cuda/score/kernel.hpp>
#include <kvevict/policy/plan.hpp>
#include <kvevict/score/attention.hpp>
#include <kvevict/view/cache.hpp>
#include <kvevict/view/inputs.hpp>
#include <type_traits>

/// What the kernels of attention work on.
///
/// Products of keys and queries are multiplied as S^T = K Q^T: keys are the rows, and the columns are the query rows of
/// a kv_head, those of one query_head after those of another,
///
///     column = query_head of the group * per_head + query row of the window
///
/// per_head a multiple of 8. A lane then owns keys, and what a slot receives from the query rows is a sum in registers,
/// in an order that nothing but the number of rows decides.
namespace kvevict::detail {

/// Columns of a tile of products.
inline constexpr int tile_columns = 8;

/// The nominal budget of a row (a gain may ask for it), by the rule of a policy.
template <budget::rule Rule>
struct rule_budget {
  Rule rule;
  protect protection{};
  [[nodiscard]] KVEVICT_HOST_DEVICE index_t operator()(const cache_shape& shape, const row_id& row,
                                                       index_t length) const {
    return plan_row(rule, protection, shape, row, length, length).nominal;
  }
};

/// The nominal budgets by a rule where the gain of an attention asks for them; else policies share their kernels.
template <class Attention, class Rule>
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr auto budget_for(const Rule& rule, const protect& protection) {
  if constexpr (Attention::gain_type::plain)
    return not_given{};
  else
    return rule_budget<Rule>{rule, protection};
}

/// Per query row, the maximum m of its logits and the sum of 2^(logit - m), over the slots that a block had; logits in
/// units of log 2. As many parts as blocks share a row of the cache, or one when they have been joined.
struct softmax_parts {
  float* peak = nullptr;  ///< [rows][parts][columns]
  float* mass = nullptr;  ///< [rows][parts][columns]
  index_t parts = 0;
  offset_t columns = 0;  ///< of the row with the most
  bool joined = false;   ///< only part 0 is left, mass 1 and the log-sum-exp as its peak

  /// Columns of a window of `rows` query rows at most.
  [[nodiscard]] KVEVICT_HOST_DEVICE static constexpr offset_t columns_of(index_t group_size, index_t rows) {
    return group_size * ((offset_t{rows} + tile_columns - 1) / tile_columns * tile_columns);
  }
  static constexpr softmax_parts take(carver& from, offset_t rows, index_t parts, offset_t columns) {
    softmax_parts s{};
    s.peak = from.take<float>(rows * parts * columns);
    s.mass = from.take<float>(rows * parts * columns);
    s.parts = parts;
    s.columns = columns;
    return s;
  }
  [[nodiscard]] KVEVICT_HOST_DEVICE offset_t at(index_t row, index_t part, offset_t column) const {
    return (static_cast<offset_t>(row) * parts + part) * columns + column;
  }
};

/// A row of the cache with its query rows.
struct attention_row {
  row_id id;
  index_t length = 0;   ///< slots
  index_t seen = 0;     ///< tokens of the sequence; the newest query row is number seen - 1
  index_t rows = 0;     ///< query rows of the window
  index_t queries = 0;  ///< query rows that the inputs hold
  index_t per_head = 0;
  index_t columns = 0;
};

/// A column as the query_head of its group and the query row of its window.
struct column_place {
  index_t head, i;

  [[nodiscard]] KVEVICT_HOST_DEVICE static column_place of(const attention_row& r, index_t column) {
    return {column / r.per_head, column % r.per_head};
  }
  /// To the column `by` further: for a few columns that is cheaper than to divide again.
  KVEVICT_HOST_DEVICE void advance(const attention_row& r, index_t by) {
    for (i += by; i >= r.per_head; i -= r.per_head) ++head;
  }
};

/// What makes products of a column weights: weight * 2^(scale * product - log_sum), for the slots before `visible`.
struct alignas(16) column_terms {
  float scale, log_sum, weight;
  index_t visible;
};

/// `LogSumExp` is a log_sum_exp_view or not_given, `Positions` a position_view or not_given, and `Budget` is read where
/// the gain is not plain. All memory is the device's.
template <class Attention, class Cache, class Queries, class LogSumExp = not_given, class Positions = not_given,
          class Budget = not_given>
struct attention_task {
  Attention how;
  Cache cache;
  Queries queries;
  LogSumExp log_sum_exp{};
  Positions positions{};
  Budget budget{};
  index_t group_size = 1;
  index_t blocks_per_row = 1;  ///< blocks of the grid that share a row of the cache
  softmax_parts parts{};       ///< read where the log-sum-exp is not given, or is another softmax's
  column_output out{};

  static constexpr float log2_of_e = 1.44269504088896341F;

  /// Whether the log-sum-exp is given and belongs to this softmax.
  static constexpr bool plain = Attention::gain_type::plain;
  static constexpr bool known = plain && !std::is_same_v<LogSumExp, not_given>;

  /// What the budget of a row refers to.
  [[nodiscard]] KVEVICT_HOST_DEVICE index_t budget_length(const attention_row& r) const {
    if constexpr (requires { positions.budget_length(r.id, r.length); })
      return positions.budget_length(r.id, r.length);
    else
      return r.length;
  }
  [[nodiscard]] KVEVICT_HOST_DEVICE row_positions positions_of_row(const row_id& row) const {
    if constexpr (std::is_same_v<Positions, not_given>)
      return {};
    else
      return positions.of(row);
  }
  [[nodiscard]] KVEVICT_HOST_DEVICE attention_row row(index_t index) const {
    attention_row r{};
    const cache_shape shape = cache.shape();
    r.id = shape.row(index);
    r.seen = r.length = cache.length(r.id);
    if constexpr (!std::is_same_v<Positions, not_given>)
      if (r.length > 0) r.seen = positions.seen(shape, r.id, r.length);
    r.queries = queries.row_count(shape, r.id);
    r.rows = least(how.window, least(r.seen, r.queries));  // fewer queries than the host promised: no wild read
    r.per_head = (greatest(r.rows, 1) + tile_columns - 1) / tile_columns * tile_columns;
    r.columns = group_size * r.per_head;
    return r;
  }
  /// Number of a query row in its sequence, and in the inputs.
  [[nodiscard]] KVEVICT_HOST_DEVICE static index_t position(const attention_row& r, index_t i) {
    return r.seen - r.rows + i;
  }
  [[nodiscard]] KVEVICT_HOST_DEVICE static index_t query(const attention_row& r, index_t i) {
    return r.queries - r.rows + i;
  }
  [[nodiscard]] KVEVICT_HOST_DEVICE row_id query_head(const attention_row& r, index_t head) const {
    row_id at = r.id;
    at.kv_head = r.id.kv_head * group_size + head;
    return at;
  }
  /// Calls f(query_head, query) for a column; false where the column only fills a tile.
  template <class F>
  KVEVICT_HOST_DEVICE bool with_query(const attention_row& r, const column_place& at, const F& f) const {
    if (at.head >= group_size || at.i >= r.rows) return false;
    f(query_head(r, at.head), query(r, at.i));
    return true;
  }
  template <class F>
  KVEVICT_HOST_DEVICE bool with_query(const attention_row& r, index_t column, const F& f) const {
    return with_query(r, column_place::of(r, column), f);
  }
  /// Slots that the query rows of the columns first .. last (excluded) see: the newest of them sees the most.
  [[nodiscard]] KVEVICT_HOST_DEVICE index_t visible_to(const attention_row& r, index_t first, index_t last) const {
    const bool to_the_end = first / r.per_head != last / r.per_head;
    const index_t newest = to_the_end ? r.rows : least(r.rows, last % r.per_head);
    return positions_of_row(r.id).before(position(r, newest - 1) + 1, r.length);
  }
  /// What a product is multiplied with where the gain is plain.
  [[nodiscard]] KVEVICT_HOST_DEVICE float plain_scale() const {
    return log2_of_e / std::sqrt(static_cast<float>(cache.keys().dims()));
  }
  /// The log-sum-exp that is given for a column.
  [[nodiscard]] KVEVICT_HOST_DEVICE float given_log_sum(const attention_row& r, const column_place& at) const {
    float log_sum = 0;
    with_query(r, at, [&](const row_id& head, index_t n) {
      const float given = log_sum_exp.data[log_sum_exp.layout.offset(head, n, 0)];
      log_sum = log_sum_exp.base == log_base::two ? given : given * log2_of_e;
    });
    return log_sum;
  }
  /// The terms of a column with that log-sum-exp.
  [[nodiscard]] KVEVICT_HOST_DEVICE column_terms terms(const attention_row& r, const column_place& at,
                                                       float log_sum) const {
    if (at.head >= group_size || at.i >= r.rows) return {0, 0, 0, 0};
    const index_t number = position(r, at.i);
    column_terms c{};
    c.scale = plain_scale();
    c.log_sum = log_sum;
    if constexpr (!Attention::gain_type::plain)
      c.scale *= how.gain(number + 1, budget(cache.shape(), r.id, budget_length(r)));
    c.weight = static_cast<float>(how.weight(r.seen - 1 - number));
    c.visible = positions_of_row(r.id).before(number + 1, r.length);
    return c;
  }
};

}  // namespace kvevict::detail
