// SPDX-License-Identifier: MIT
#include <cstdlib>
#include <kvevict/cpu.hpp>
#include <string_view>

#include "device.hpp"

/// A device in whose place the CPU runs, for one scorer: so that what `compare --backend cuda` says of a device is
/// tested where there is none. KVEVICT_PRETEND=scores: its scores are off by a little; slots: it selects wrong ones;
/// bytes: it moves wrong ones.
using namespace kvevict;

namespace {

bool pretends(std::string_view what) {
  const char* const said = std::getenv("KVEVICT_PRETEND");
  return said != nullptr && what == said;
}

template <class Policy>
void run(const Policy& policy, const layer_capture& c, const task& what, device_run& out) {
  const index_t length = c.length - what.future;
  const cache whole{cache_shape{1, 1, c.kv_heads}, length,
                    entries{c.keys.data(), hnd(1, c.kv_heads, c.length, c.dim), c.dim},
                    entries{c.values.data(), hnd(1, c.kv_heads, c.length, c.value_dim), c.value_dim}};
  const inputs in{whole};
  std::vector<offset_t> score_offsets;
  for (index_t h = 0; h <= c.kv_heads; ++h) score_offsets.push_back(static_cast<offset_t>(h) * length);
  out.scores.resize(static_cast<std::size_t>(score_offsets.back()));
  out.slots.resize(out.scores.size());
  out.offsets.resize(score_offsets.size());
  std::vector<cache_line> scratch(cache_lines(workspace_bytes(cpu{}, policy, in)));
  const workspace memory = workspace_of(scratch);
  status s = score_rows(cpu{}, policy, in, {out.scores.data(), score_offsets.data(), c.kv_heads}, memory);
  if (pretends("scores"))
    for (std::size_t i = 0; i < out.scores.size(); i += 2) out.scores[i] *= 1.2F;
  const row_scores scored{whole.shape(), {out.scores.data(), score_offsets.data(), c.kv_heads}};
  const selection kept{out.slots, out.offsets};
  if (s.ok()) s = select(cpu{}, policy, scored, kept, memory);
  std::vector<offset_t>& places = out.offsets;
  const auto total = static_cast<std::size_t>(places.back());
  out.keys.resize(total * static_cast<std::size_t>(c.dim));
  out.values.resize(total * static_cast<std::size_t>(c.value_dim));
  const cache smaller{whole.shape(), index_t{0}, entries{out.keys.data(), flat{places.data(), c.dim}, c.dim},
                      entries{out.values.data(), flat{places.data(), c.value_dim}, c.value_dim}};
  if (s.ok()) s = gather(cpu{}, whole, kept, smaller);
  out.slots.resize(total);
  if (pretends("slots")) ++out.slots.back();
  if (pretends("bytes")) out.values.back() += 1;
  if (!s.ok()) std::exit(3);
}

}  // namespace

std::string device_problem() { return {}; }

device_run run_on_device(const layer_capture& capture, const task& what, const std::string& spec, amount budget) {
  device_run out;
  if (spec.starts_with("ada_"))
    run(adakv{knorm{.budget = budget}}, capture, what, out);
  else
    run(knorm{.budget = budget}, capture, what, out);
  return out;
}
