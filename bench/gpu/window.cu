// SPDX-License-Identifier: MIT
#include "score_step.cuh"

namespace measured {

using namespace kvevict;

std::optional<timing> measure_window(window_kind kind, index_t layers, index_t keys, const row_check& right) {
  const parts has{.values = with_values(kind), .norms = kind == window_kind::norms_lse, .lse = with_lse(kind)};
  const amount budget = slots(kept);
  const snapkv<> snap{.budget = budget, .window = window};
  const ahakv<score::plain_gain> plain{.budget = budget, .window = window};
  const ahakv<> published{.budget = budget, .window = window};
  const auto run = [&]<class E>(E, const auto& policy, const auto& inputs_of) {
    return measure_scoring<E>(policy, layers, keys, window, has, inputs_of, right);
  };
  const auto queries = [](const auto& c) { return inputs{c.cache(), c.query_rows_view()}; };
  const auto lse = [](const auto& c) { return inputs{c.cache(), c.query_rows_view(), c.lse_view()}; };
  const auto norms = [](const auto& c) { return inputs{c.cache(), c.query_rows_view(), c.lse_view(), c.norm_view()}; };
  switch (kind) {
    case window_kind::keys:
      return run(bfloat16{}, snap, queries);
    case window_kind::keys_lse:
      return run(bfloat16{}, snap, lse);
    case window_kind::norms_lse:
      return run(bfloat16{}, plain, norms);
    case window_kind::values_lse:
      return run(bfloat16{}, plain, lse);
    case window_kind::step_gain_values:
      return run(bfloat16{}, published, queries);
    default:
      return run(float{}, snap, lse);
  }
}

}  // namespace measured
