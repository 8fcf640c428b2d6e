// SPDX-License-Identifier: MIT
#pragma once

#include <string>

#include "../support/stored.hpp"

/// What the two compilers share of the tests of scores: on_device_score.cpp knows what must come out,
/// on_device_score.cuh and the .cu files beside it run the device.
namespace on_device {

using kvevict::index_t;
using kvevict::offset_t;

/// What is passed beside the cache.
enum class given { queries, log_sum_exp, everything };

/// The numbers for it: of every query row, and of every slot, `most` per row.
struct beside {
  kvevict::strided by_query, by_slot;
  std::vector<float> log_sum_exp, value_norms;
  std::vector<index_t> positions, seen;
};
struct beside_memory {
  const float *log_sum_exp, *value_norms;
  const index_t *positions, *seen;
};

template <given Given, class Cache, class Queries>
[[nodiscard]] auto inputs_of(const Cache& cache, const Queries& queries, const beside& b, const beside_memory& m) {
  using namespace kvevict;
  const log_sum_exp_view lse{m.log_sum_exp, b.by_query, log_base::two};
  if constexpr (Given == given::queries)
    return inputs{cache, queries};
  else if constexpr (Given == given::log_sum_exp)
    return inputs{cache, queries, lse};
  else
    return inputs{cache, queries, lse, position_view{m.positions, b.by_slot, m.seen},
                  value_norm_view{m.value_norms, b.by_slot}};
}

struct evicted {
  std::string wrong;          ///< what went wrong, or nothing
  std::vector<float> scores;  ///< row after row
  std::vector<offset_t> offsets;
  std::vector<index_t> slots;
  std::vector<kvevict::row_receipt> receipts;
};

/// `score_rows`, then `evict`, each run plainly and replayed. The queries are those of `content`.
template <given Given, class Policy, class E, class KeyLayout, class ValueLayout>
[[nodiscard]] evicted evict(const Policy& policy, const host::content<E>& content,
                            const host::stored<E, KeyLayout, ValueLayout>& stored, const beside& extra, int runs);

}  // namespace on_device
