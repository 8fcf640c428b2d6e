// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/evict.cuh>

#include "on_device_run.cuh"
#include "on_device_score.hpp"

namespace on_device {

template <given Given, class Policy, class E, class KeyLayout, class ValueLayout>
evicted evict(const Policy& policy, const host::content<E>& content,
              const host::stored<E, KeyLayout, ValueLayout>& stored, const beside& extra, int runs) {
  using namespace kvevict;
  const stored_copy held(stored);
  const device::array<E> queries(content.queries);
  const device::array<index_t> query_rows(content.query_rows), positions(extra.positions), seen(extra.seen);
  const device::array<float> lse(extra.log_sum_exp), norms(extra.value_norms);
  const cache_shape shape = content.shape;
  const auto rows = static_cast<index_t>(shape.rows());
  const query_view asked{entries{static_cast<const E*>(queries.data()), content.query_layout(), content.dim},
                         shape.kv_heads * content.group, static_cast<const index_t*>(query_rows.data())};
  const auto in =
      inputs_of<Given>(held.cache(), asked, extra, {lse.data(), norms.data(), positions.data(), seen.data()});

  std::vector<offset_t> begins{0};
  for (const index_t n : content.lengths) begins.push_back(begins.back() + n);
  const device::array<offset_t> score_offsets(begins), offsets(begins.size());
  const auto slots = static_cast<std::size_t>(begins.back());
  const device::array<float> scores(slots);
  const device::array<index_t> kept(slots);
  const device::array<row_receipt> receipts(static_cast<std::size_t>(rows));
  const auto on = [&](gpu g) {
    g.longest = content.most;
    return g;
  };
  const scratch memory(workspace_bytes(on(gpu{}), policy, in));

  evicted result;
  outputs of_scores, of_eviction;
  of_scores.add(scores);
  result.wrong = repeated(of_scores, memory, runs, [&](const gpu& g) {
    return score_rows(on(g), policy, in, {scores.data(), score_offsets.data(), rows}, memory.get());
  });
  if (!result.wrong.empty()) return result;
  of_eviction.add(kept);
  of_eviction.add(offsets);
  of_eviction.add(receipts);
  result.wrong = repeated(of_eviction, memory, runs, [&](const gpu& g) {
    return kvevict::evict(
        on(g), policy, in,
        {{kept.data(), static_cast<offset_t>(kept.size())}, {offsets.data(), rows + 1}, {receipts.data(), rows}},
        memory.get());
  });
  result.scores = scores.host();
  result.offsets = offsets.host();
  result.slots = kept.host();
  result.receipts = receipts.host();
  return result;
}

}  // namespace on_device
