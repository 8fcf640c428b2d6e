// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/view/cache.hpp>
#include <kvevict/view/strided.hpp>
#include <tuple>
#include <type_traits>

namespace kvevict {

/// What may be passed beside the cache; a scorer names the ones it needs in its type.
enum class input_kind { queries, log_sum_exp, attention, value_norms, positions, budget_pools };

/// Post-RoPE queries, [layers][seqs][query_heads][rows][head_dim] in any layout (its `head` is a query_head, its
/// `slot` a row). Rows are the last `rows` positions of each sequence: row i sees length - rows + i + 1 slots.
/// query_head h reads kv_head h / group_size, group_size = query_heads / kv_heads.
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

/// Position of every slot (what RoPE saw). Without it position = slot, true until the first eviction.
struct position_view {
  static constexpr input_kind kind = input_kind::positions;

  const index_t* data = nullptr;
  strided layout{};  ///< `dim` is not used
};

/// Which rows share one budget pool: pool of each row, [rows], values 0 .. pools - 1. Read by joint budget rules
/// only; without it the kv_heads of one (layer, sequence) share.
struct budget_pool_view {
  static constexpr input_kind kind = input_kind::budget_pools;

  const index_t* pool_of_row = nullptr;
  index_t pools = 0;
};

/// Everything a call reads: a cache and, in any order, what else the policy needs.
///
/// @code
/// inputs in{view, query_view{queries, query_heads, rows}, value_norm_view{norms, layout}};
/// @endcode
template <cache_view Cache, class... Parts>
struct inputs {
  Cache cache;
  std::tuple<Parts...> parts;

  constexpr explicit inputs(const Cache& c, const Parts&... p) : cache(c), parts(p...) {}

  template <input_kind Kind>
  static constexpr bool has = ((Parts::kind == Kind) || ...);

  /// The part of that kind. Where it is missing this does not compile, and the message says what to pass.
  template <input_kind Kind>
  [[nodiscard]] constexpr const auto& get() const {
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
      return std::get<index_of<Kind>()>(parts);
    else
      return cache;
  }

 private:
  template <input_kind Kind>
  static constexpr std::size_t index_of() {
    std::size_t found = 0, i = 0;
    ((Parts::kind == Kind ? found = i++ : i++), ...);
    return found;
  }
};
template <cache_view Cache, class... Parts>
inputs(Cache, Parts...) -> inputs<Cache, Parts...>;

}  // namespace kvevict
