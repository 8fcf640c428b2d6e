// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/core/status.hpp>
#include <kvevict/view/cache.hpp>
#include <kvevict/view/strided.hpp>
#include <type_traits>

namespace kvevict {

/// What may be passed beside the cache; a scorer names the ones it needs in its type.
enum class input_kind { queries, log_sum_exp, attention, attention_sums, value_norms, positions, budget_pools, ranks };

/// Post-RoPE queries, [layers][seqs][query_heads][rows][head_dim] in any layout (its `head` is a query_head, its
/// `slot` a row). Rows are the last `rows` positions of each sequence: row i sees length - rows + i + 1 slots, or,
/// where a `position_view` is passed, the slots up to its own position. query_head h reads kv_head h / group_size,
/// group_size = query_heads / kv_heads.
template <entry_source Entries>
struct query_view {
  static constexpr input_kind kind = input_kind::queries;

  Entries entries;
  index_t query_heads = 0;
  row_lengths rows;  ///< one number, or [layers * seqs]: sequences of different lengths have all their rows

  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr index_t row_count(const cache_shape& shape, const row_id& row) const {
    return rows[row.layer * shape.seqs + row.seq];
  }
};
template <class Entries>
query_view(Entries, index_t, index_t) -> query_view<Entries>;
template <class Entries>
query_view(Entries, index_t, const index_t*) -> query_view<Entries>;
template <class Entries>
query_view(Entries, index_t, row_lengths) -> query_view<Entries>;

/// Base of a logarithm: FlashAttention returns the natural one, FlashInfer the binary one.
enum class log_base { e, two };

/// log of sum over visible slots of exp(q . k / sqrt(head_dim)) per query row, as attention kernels return it:
/// data[layer * .layer + seq * .seq + query_head * .head + row * .slot].
struct log_sum_exp_view {
  static constexpr input_kind kind = input_kind::log_sum_exp;

  const float* data = nullptr;
  strided layout{};
  log_base base = log_base::e;
};

/// Attention probabilities that the engine already has, [layers][seqs][query_heads][rows][slots], softmax of
/// q . k / sqrt(head_dim); entry = query row, dim = slot. Values of slots a row cannot see are not read.
template <entry_source Entries>
struct attention_view {
  static constexpr input_kind kind = input_kind::attention;

  Entries entries;
  index_t query_heads = 0;
  row_lengths rows;

  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr index_t row_count(const cache_shape& shape, const row_id& row) const {
    return rows[row.layer * shape.seqs + row.seq];
  }
};
template <class Entries>
attention_view(Entries, index_t, index_t) -> attention_view<Entries>;
template <class Entries>
attention_view(Entries, index_t, row_lengths) -> attention_view<Entries>;

/// ||v||^2 of every slot, kept when the value was appended, so that a value prior need not read the values.
struct value_norm_view {
  static constexpr input_kind kind = input_kind::value_norms;

  const float* data = nullptr;
  strided layout{};  ///< `dim` is not used
};

/// The positions of one row, by slot; without memory a slot is its position.
struct row_positions {
  const index_t* first = nullptr;
  offset_t step = 0;

  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr index_t operator()(index_t slot) const {
    return first == nullptr ? slot : first[slot * step];
  }
  /// Slots of a row of `length` whose positions are below `end`; positions ascend.
  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr index_t before(index_t end, index_t length) const {
    if (first == nullptr) return least(end, length);
    if (length > 0 && (*this)(length - 1) < end) return length;  // so for the newest row, the one of a decode step
    index_t from = 0;
    while (from < length) {
      const index_t middle = from + (length - from) / 2;
      if ((*this)(middle) < end)
        from = middle + 1;
      else
        length = middle;
    }
    return length;
  }
};

/// Position of every slot (what RoPE saw), ascending along a row. Without it position = slot, true until the first
/// eviction. With it a query row sees the slots up to its own position, and a gain counts the tokens that the row has
/// seen, evicted ones included.
struct position_view {
  static constexpr input_kind kind = input_kind::positions;

  const index_t* data = nullptr;
  strided layout{};                      ///< `dim` is not used
  const index_t* tokens_seen = nullptr;  ///< [layers * seqs]; null: the position of the last slot, plus 1

  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr row_positions of(const row_id& row) const {
    return {data + layout.offset(row, 0, 0), layout.slot};
  }
  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr index_t seen(const cache_shape& shape, const row_id& row,
                                                           index_t length) const {
    if (data == nullptr) return length;  // the check that follows says so
    if (tokens_seen != nullptr) return tokens_seen[row.layer * shape.seqs + row.seq];
    const index_t last = of(row)(length - 1);
    return last < 0x7fffffff ? last + 1 : last;  // after that one no token could be counted, and it is refused
  }
  [[nodiscard]] constexpr status check(const cache_shape& shape, const row_id& row, index_t length) const {
    if (data == nullptr) return {status_code::bad_pointer, "positions", "the positions are null"};
    for (index_t j = 1; j < length; ++j)
      if (of(row)(j) <= of(row)(j - 1))
        return {status_code::bad_input, "positions", "the positions of a row must ascend"};
    if (of(row)(0) < 0 || of(row)(length - 1) >= seen(shape, row, length))
      return {status_code::bad_input, "positions", "a position is negative or beyond the tokens seen"};
    return {};
  }
};

/// Which rows share one budget pool: pool of each row, [rows], values 0 .. pools - 1. Read by joint budget rules
/// only; without it the kv_heads of one (layer, sequence) share.
struct budget_pool_view {
  static constexpr input_kind kind = input_kind::budget_pools;

  const index_t* pool_of_row = nullptr;
  index_t pools = 0;
};

namespace detail {

/// Values one after another, found by their kind. `std::tuple` would do on the host, but its accessors are not callable
/// in device code without a compiler flag that an engine may not set.
template <class... Parts>
struct part_list {
  /// f(all parts, in order).
  template <class F, class... Before>
  [[nodiscard]] constexpr auto pass_to(const F& f, const Before&... before) const {
    return f(before...);
  }
};
template <class First, class... Rest>
struct part_list<First, Rest...> : part_list<Rest...> {
  First first;

  constexpr explicit part_list(const First& f, const Rest&... rest) : part_list<Rest...>(rest...), first(f) {}

  template <input_kind Kind>
  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr const auto& get() const {
    if constexpr (First::kind == Kind && !((Rest::kind == Kind) || ...))
      return first;
    else
      return static_cast<const part_list<Rest...>&>(*this).template get<Kind>();
  }
  template <class F, class... Before>
  [[nodiscard]] constexpr auto pass_to(const F& f, const Before&... before) const {
    return static_cast<const part_list<Rest...>&>(*this).pass_to(f, before..., first);
  }
};

}  // namespace detail

/// Everything a call reads: a cache and, in any order, what else the policy needs.
///
/// @code
/// inputs in{view, query_view{queries, query_heads, rows}, value_norm_view{norms, layout}};
/// @endcode
template <cache_view Cache, class... Parts>
struct inputs {
  Cache cache;
  detail::part_list<Parts...> parts;

  constexpr explicit inputs(const Cache& c, const Parts&... p) : cache(c), parts(p...) {}

  template <input_kind Kind>
  static constexpr bool has = ((Parts::kind == Kind) || ...);

  /// The part of that kind. Where it is missing this does not compile, and the message says what to pass.
  template <input_kind Kind>
  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr const auto& get() const {
    constexpr bool there = has<Kind>;
    static_assert(there || Kind != input_kind::queries,
                  "kvevict: this scorer reads queries: pass a kvevict::query_view to kvevict::inputs");
    static_assert(there || Kind != input_kind::attention,
                  "kvevict: this scorer reads attention: pass a kvevict::attention_view to kvevict::inputs");
    static_assert(there || Kind != input_kind::value_norms,
                  "kvevict: this scorer reads value norms: pass a cache with values or a kvevict::value_norm_view to "
                  "kvevict::inputs");
    static_assert(
        there || Kind == input_kind::queries || Kind == input_kind::attention || Kind == input_kind::value_norms,
        "kvevict: this scorer reads an input that kvevict::inputs does not hold");
    if constexpr (there)
      return parts.template get<Kind>();
    else
      return cache;
  }
};
template <cache_view Cache, class... Parts>
inputs(Cache, Parts...) -> inputs<Cache, Parts...>;

/// The positions of a row: those passed, or the slots themselves.
template <class Inputs>
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr row_positions positions_of(const Inputs& in, const row_id& row) {
  if constexpr (Inputs::template has<input_kind::positions>)
    return in.template get<input_kind::positions>().of(row);
  else
    return {};
}

/// Tokens that the sequence of a row has seen, evicted ones included.
template <class Inputs>
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr index_t tokens_seen(const Inputs& in, const row_id& row, index_t length) {
  if constexpr (Inputs::template has<input_kind::positions>)
    return in.template get<input_kind::positions>().seen(in.cache.shape(), row, length);
  else
    return length;
}

/// The length that the budget of a row refers to: its own, or what a decode state says.
template <class Inputs>
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr index_t budget_length(const Inputs& in, const row_id& row, index_t length) {
  if constexpr (Inputs::template has<input_kind::positions>)
    if constexpr (requires { in.template get<input_kind::positions>().budget_length(row, length); })
      return in.template get<input_kind::positions>().budget_length(row, length);
  return length;
}

namespace detail {

/// Who shares a budget; empty where the caller leaves it to the kv_heads of a layer.
template <class Inputs>
[[nodiscard]] budget_pool_view pools_of(const Inputs& in) {
  if constexpr (Inputs::template has<input_kind::budget_pools>)
    return in.template get<input_kind::budget_pools>();
  else
    return {};
}

/// Pools of the caller's own that rows can be dealt to.
[[nodiscard]] constexpr status check_pool_count(const budget_pool_view& pools, offset_t rows) {
  if (pools.pool_of_row == nullptr || (pools.pools >= 1 && pools.pools <= rows)) return {};
  return {status_code::bad_shape, "budget_pools", "there must be at least one pool and at most one per row"};
}

}  // namespace detail

}  // namespace kvevict
