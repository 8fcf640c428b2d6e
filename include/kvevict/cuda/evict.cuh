// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/detail/bounded.hpp>
#include <kvevict/cuda/ranks.cuh>
#include <kvevict/cuda/score/launch.cuh>
#include <kvevict/cuda/select.cuh>

/// Score, and score and select, on the device: the CPU's calls (cpu/evict.hpp) with memory of the device. Selections by
/// the same scores are the same bit for bit; scores are sums in another order (cuda/score/).
namespace kvevict {

namespace detail {

/// Everything that `evict` puts into the workspace.
struct device_memory {
  rank_memory ranks;  ///< first, so that a rank whose call is refused knows where
  score_memory score;
  float* scores = nullptr;  ///< [rows * longest]
  share_memory share;

  template <class Policy, class Inputs>
  static device_memory take(carver& from, const Policy& policy, const Inputs& in, index_t longest) {
    constexpr bool joint = decltype(policy.rule())::joint, across = Inputs::template has<input_kind::ranks>;
    const cache_shape shape = in.cache.shape();
    const offset_t rows = shape.rows();
    device_memory m{};
    if constexpr (joint && across)
      m.ranks = rank_memory::take(from, shape, greatest(0, in.template get<input_kind::ranks>().kv_heads));
    m.score = take_score_memory(from, policy.scorer(), in, longest);
    m.scores = from.take<float>(rows * longest);
    if constexpr (joint && !across) m.share = share_memory::take(from, rows);
    return m;
  }
};

/// Queries that a source of attention can read.
template <class Source, class Inputs>
[[nodiscard]] status check_queries(const Source&, const Inputs& in) {
  const auto& queries = in.template get<input_kind::queries>();
  if (queries.entries.null()) return {status_code::bad_pointer, "queries", "the data of this input is null"};
  if (queries.entries.dims() != in.cache.keys().dims())
    return {status_code::bad_shape, "queries", "queries need as many dims as the keys"};
  if (queries.rows.each == nullptr && queries.rows.all < 1)
    return {status_code::bad_input, "queries", "there are fewer query rows than the observation window"};
  return {};
}

/// What the host can know of inputs whose memory is the device's.
template <class Policy, class Inputs>
[[nodiscard]] status check_on_device(const gpu& on, const Policy& policy, const Inputs& in) {
  static_assert(!Inputs::template has<input_kind::attention>,
                "kvevict: on the device scorers read queries, not attention that is given");
  if (const status s = check(policy); !s.ok()) return s;
  if (const status s = check_entries(in.cache); !s.ok()) return s;
  if constexpr (Inputs::template has<input_kind::ranks>)
    if (const status s = check_ranks<Policy>(in); !s.ok()) return s;
  if (on.longest < 1 || on.longest > most_slots)
    return {status_code::bad_shape, "longest", "kvevict::gpu::longest must say how many slots a row can have"};
  if (group_size(in) < 1)
    return {status_code::bad_shape, "query_heads", "query_heads must be a positive multiple of kv_heads"};
  status result{};
  score::each_source(policy.scorer(), [&](const auto& source) {
    if constexpr (reads_columns<std::remove_cvref_t<decltype(source)>>) result = check_queries(source, in);
  });
  if constexpr (Inputs::template has<input_kind::log_sum_exp>)
    if (in.template get<input_kind::log_sum_exp>().data == nullptr)
      result = {status_code::bad_pointer, "log_sum_exp", "the log-sum-exp is null"};
  if constexpr (Inputs::template has<input_kind::positions>)
    if (in.template get<input_kind::positions>().data == nullptr)
      result = {status_code::bad_pointer, "positions", "the positions are null"};
  if constexpr (Inputs::template has<input_kind::value_norms>)
    if (in.template get<input_kind::value_norms>().data == nullptr)
      result = {status_code::bad_pointer, "value_norms", "the value norms are null"};
  return result;
}

}  // namespace detail

/// Bytes of the device that `evict` and `score_rows` need, by what the host knows: shape, `gpu::longest`, the policy
/// and the number of query rows.
template <eviction_policy Policy, class Inputs>
[[nodiscard]] offset_t workspace_bytes(const gpu& on, const Policy& policy, const Inputs& in) {
  carver count;
  detail::device_memory::take(count, policy, in, greatest(1, on.longest));
  return count.bytes();
}

/// Scores every row: out[row][slot], higher = keep. `out.offsets` are the caller's, [rows + 1], and fit the lengths.
template <eviction_policy Policy, class Inputs>
[[nodiscard]] status score_rows(const gpu& on, const Policy& policy, const Inputs& in, const ragged<float>& out,
                                const workspace& memory) {
  if (const status s = detail::check_on_device(on, policy, in); !s.ok()) return s;
  if (out.data == nullptr || out.offsets == nullptr)
    return {status_code::bad_pointer, "scores", "the scores or their offsets are null"};
  if (out.rows != in.cache.shape().rows())
    return {status_code::bad_shape, "scores", "the scores need one row per cache row"};
  if (const status s = detail::check_workspace(memory, workspace_bytes(on, policy, in)); !s.ok()) return s;
  carver place(memory.data);
  const auto m = detail::device_memory::take(place, policy, in, on.longest);
  return detail::launch_scorer(on, policy, detail::bounded(in, on.longest), out, m.score, true);
}

/// Scores and selects: which slots of each row stay (select/selection.hpp). Changes only `out` and the workspace. With
/// a `rank_view` among the inputs, all ranks call it together (cuda/ranks.cuh).
template <eviction_policy Policy, class Inputs>
[[nodiscard]] status evict(const gpu& on, const Policy& policy, const Inputs& in, const selection& out,
                           const workspace& memory) {
  constexpr bool joint = decltype(policy.rule())::joint;  // then also rows that their own budget covers compete
  constexpr bool across = joint && Inputs::template has<input_kind::ranks>;
  const cache_shape shape = in.cache.shape();
  const auto rows = static_cast<index_t>(shape.rows());
  const budget_pool_view pools = detail::pools_of(in);
  const status mine = [&]() -> status {
    if (const status s = detail::check_on_device(on, policy, in); !s.ok()) return s;
    if (const status s = detail::check_pool_count(pools, rows); !s.ok()) return s;
    if (const status s = detail::check_selection(out, rows, 0); !s.ok()) return s;
    return detail::check_workspace(memory, workspace_bytes(on, policy, in));
  }();
  if constexpr (across) {
    const auto& ranks = in.template get<input_kind::ranks>();
    if (!mine.ok()) return detail::refuse_across(on, ranks, shape, memory, mine);
  } else {
    if (!mine.ok()) return mine;
  }
  carver place(memory.data);
  const auto m = detail::device_memory::take(place, policy, in, on.longest);
  const auto seen = detail::bounded(in, on.longest);
  const ragged<float> scores{m.scores, m.score.offsets, rows};
  using cache_type = std::remove_cvref_t<decltype(seen.cache)>;
  if (const status s = detail::launch<detail::select_threads>(
          on, 1, detail::lay_out_bytes, detail::lay_out_body<cache_type>{seen.cache, m.score.offsets});
      !s.ok())
    return s;
  if (const status s = detail::launch_scorer(on, policy, seen, scores, m.score, joint); !s.ok()) return s;
  const row_scores scored{shape, {m.scores, m.score.offsets, rows}, pools, detail::entry_bytes(in.cache)};
  if constexpr (across)
    return detail::launch_across(on, policy, scored, out, in.template get<input_kind::ranks>(), m.ranks);
  else
    return detail::launch_select(on, policy, scored, out, m.share);
}

}  // namespace kvevict
