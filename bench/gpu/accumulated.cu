// SPDX-License-Identifier: MIT
#include "score_step.cuh"

namespace measured {

using namespace kvevict;

std::optional<timing> measure_accumulated(index_t layers, index_t keys, const row_check& right) {
  return measure_scoring<bfloat16>(
      h2o{.budget = slots(kept)}, layers, keys, keys, {.lse = true},
      [](const auto& c) {
        return inputs{c.cache(), c.query_rows_view(), c.lse_view()};
      },
      right);
}

}  // namespace measured
