// SPDX-License-Identifier: MIT
#include <kvevict/cpu/openmp.hpp>

#include "compositions.hpp"
#include "policies.hpp"

std::string check_spec(const std::string& spec) {
  return compositions::visit(spec, kvevict::percent(50), [](const auto&) {});
}

kept_slots prompt_policies::keep(const std::string& spec, kvevict::amount budget) {
  using namespace kvevict;
  const std::vector<float>& given = scores(spec, budget);
  const auto in = prompt_.inputs();
  const cache_shape shape = in.cache.shape();
  const auto rows = static_cast<index_t>(shape.rows());
  std::vector<offset_t> offsets;
  for (index_t r = 0; r <= rows; ++r) offsets.push_back(offset_t{r} * prompt_.tokens());
  const row_scores of{shape, {given.data(), offsets.data(), rows}};
  kept_slots kept;
  kept.offsets.resize(static_cast<std::size_t>(rows) + 1);
  const std::string wrong = compositions::visit(spec, budget, [&](const auto& policy) {
    const cpu<openmp> on{openmp{}};
    std::vector<cache_line> scratch(cache_lines(workspace_bytes(on, policy, of)));
    kept.slots.resize(static_cast<std::size_t>(selection_capacity(policy, in)));
    require(select(on, policy, of, selection{kept.slots, kept.offsets}, workspace_of(scratch)));
  });
  if (!wrong.empty()) throw std::runtime_error(wrong);
  return kept;
}

void gather_kept(prompt& from, kept_slots& kept, kv_memory& to) {
  using namespace kvevict;
  const auto source = from.inputs().cache;
  const index_t layers = source.shape().layers;
  require(gather(cpu<openmp>{openmp{}}, source, kept.selection(), to.view(0, layers, layers)));
  retained_lengths(kept.selection(), to.lengths(0));
}
