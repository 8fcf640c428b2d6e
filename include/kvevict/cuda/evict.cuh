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
  float* scores = nullptr;            ///< [rows * longest]
  index_t* budget_lengths = nullptr;  ///< [rows]
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
    m.budget_lengths = from.take<index_t>(rows);
    if constexpr (joint && !across) m.share = share_memory::take(from, rows);
    return m;
  }
};

/// Rows of the inputs that a source of attention reads: what is given, or else queries.
template <class Source, class Inputs>
[[nodiscard]] status check_rows_of(const Source& source, const Inputs& in) {
  if (sums_are_given(source, in)) return {};
  constexpr bool given = attention_is_given<Source, Inputs>;
  constexpr const char* name = given ? "attention" : "queries";
  const auto& from = in.template get < given ? input_kind::attention : input_kind::queries > ();
  if (from.entries.null()) return {status_code::bad_pointer, name, "the data of this input is null"};
  if (given ? from.entries.dims() < 1 : from.entries.dims() != in.cache.keys().dims())
    return {status_code::bad_shape, name,
            given ? "attention needs as many dims as the row has slots" : "queries need as many dims as the keys"};
  if (from.rows.each == nullptr && from.rows.all < 1)
    return {status_code::bad_input, name, "there are fewer query rows than the observation window"};
  return {};
}

/// What the host can know of inputs whose memory is the device's.
template <class Policy, class Inputs>
[[nodiscard]] status check_on_device(const gpu& on, const Policy& policy, const Inputs& in) {
  if (const status s = check(policy); !s.ok()) return s;
  if (const status s = check_entries(in.cache); !s.ok()) return s;
  if constexpr (Inputs::template has<input_kind::ranks>)
    if (const status s = check_ranks<Policy>(in); !s.ok()) return s;
  if (on.longest < 1 || on.longest > most_slots)
    return {status_code::bad_shape, "longest", "kvevict::gpu::longest must say how many slots a row can have"};
  if (group_size(in) < 1)
    return {status_code::bad_shape, "query_heads", "query_heads must be a positive multiple of kv_heads"};
  status result{};
  if constexpr (attention_sources<std::remove_cvref_t<decltype(policy.scorer())>> != 0)
    result = check_rows_of(attention_of(policy.scorer()), in);
  if constexpr (Inputs::template has<input_kind::queries> && Inputs::template has<input_kind::attention>)
    if (in.template get<input_kind::queries>().query_heads != in.template get<input_kind::attention>().query_heads)
      result = {status_code::bad_shape, "query_heads", "queries and attention must have the same query_heads"};
  if constexpr (Inputs::template has<input_kind::log_sum_exp>)
    if (in.template get<input_kind::log_sum_exp>().data == nullptr)
      result = {status_code::bad_pointer, "log_sum_exp", "the log-sum-exp is null"};
  if constexpr (Inputs::template has<input_kind::positions>)
    if constexpr (requires { in.template get<input_kind::positions>().data; })
      if (in.template get<input_kind::positions>().data == nullptr)
        result = {status_code::bad_pointer, "positions", "the positions are null"};
  if constexpr (Inputs::template has<input_kind::value_norms>)
    if (in.template get<input_kind::value_norms>().data == nullptr)
      result = {status_code::bad_pointer, "value_norms", "the value norms are null"};
  return result;
}

}  // namespace detail

/// Bytes of the device that `evict` and `score_rows` need, by what the host knows: shape, `gpu::longest`, the policy
/// and the number of query rows. 0 where the call will refuse the policy or the shape.
template <eviction_policy Policy, class Inputs>
[[nodiscard]] offset_t workspace_bytes(const gpu& on, const Policy& policy, const Inputs& in) {
  if (!check(policy).ok() || !check(in.cache.shape()).ok()) return 0;
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

namespace detail {

/// Everything that `evict` does, with the states of decode among the inputs or without.
template <class Policy, class Inputs>
[[nodiscard]] status evict_rows(const gpu& on, const Policy& policy, const Inputs& in, const selection& out,
                                const workspace& memory) {
  constexpr bool joint = decltype(policy.rule())::joint;  // then also rows that their own budget covers compete
  constexpr bool across = joint && Inputs::template has<input_kind::ranks>;
  const cache_shape shape = in.cache.shape();
  const auto rows = static_cast<index_t>(shape.rows());
  const budget_pool_view pools = pools_of(in);
  const status mine = [&]() -> status {
    if (const status s = check_on_device(on, policy, in); !s.ok()) return s;
    if (const status s = check_pool_count(pools, rows); !s.ok()) return s;
    if (const status s = check_selection(out, rows, 0); !s.ok()) return s;
    return check_workspace(memory, workspace_bytes(on, policy, in));
  }();
  if constexpr (across) {
    if (!mine.ok()) return refuse_across(on, in.template get<input_kind::ranks>(), shape, memory, mine);
  } else {
    if (!mine.ok()) return mine;
  }
  carver place(memory.data);
  const auto m = device_memory::take(place, policy, in, on.longest);
  const auto seen = bounded(in, on.longest);
  const ragged<float> scores{m.scores, m.score.offsets, rows};
  using lay_out = lay_out_body<std::remove_cvref_t<decltype(seen)>>;
  if (const status s = launch<select_threads>(on, 1, lay_out_bytes, lay_out{seen, m.score.offsets, m.budget_lengths});
      !s.ok())
    return s;
  if (const status s = launch_scorer(on, policy, seen, scores, m.score, joint); !s.ok()) return s;
  const row_scores scored{shape, {m.scores, m.score.offsets, rows}, pools, entry_bytes(in.cache)};
  auto task = select_task_of(policy, scored, out);
  task.budget_lengths = m.budget_lengths;
  if constexpr (across)
    return launch_across(on, task, in.template get<input_kind::ranks>(), m.ranks);
  else
    return launch_select(on, task, m.share);
}

}  // namespace detail

/// Scores and selects: which slots of each row stay (select/selection.hpp). Changes only `out` and the workspace. With
/// a `rank_view` among the inputs, all ranks call it together (cuda/ranks.cuh).
template <eviction_policy Policy, class Inputs>
[[nodiscard]] status evict(const gpu& on, const Policy& policy, const Inputs& in, const selection& out,
                           const workspace& memory) {
  return detail::evict_rows(on, policy, in, out, memory);
}

}  // namespace kvevict
