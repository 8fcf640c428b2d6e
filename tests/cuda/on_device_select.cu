// SPDX-License-Identifier: MIT
#include <kvevict/cuda/select.cuh>

#include "on_device.hpp"
#include "on_device_run.cuh"

namespace on_device {

using namespace kvevict;

template <class Policy>
selected select(const Policy& policy, const scored_rows& in, offset_t room, int runs) {
  const device::array<float> scores(in.scores);
  const device::array<offset_t> score_offsets(in.offsets), offsets(in.offsets.size());
  const device::array<index_t> slots(in.scores.size()), pool_of_row(in.pool_of_row);
  const auto rows = static_cast<index_t>(in.shape.rows());
  const device::array<row_receipt> receipts(static_cast<std::size_t>(rows));
  const row_scores given{in.shape,
                         {scores.data(), score_offsets.data(), rows},
                         {in.pools > 0 ? pool_of_row.data() : nullptr, in.pools},
                         in.entry_bytes};
  const scratch memory(workspace_bytes(gpu{}, policy, given));
  const selection out{{slots.data(), room}, {offsets.data(), rows + 1}, {receipts.data(), rows}};
  outputs written;
  written.add(slots);
  written.add(offsets);
  written.add(receipts);
  const std::string wrong = repeated(
      written, memory, runs, [&](const gpu& on) { return kvevict::select(on, policy, given, out, memory.get()); });
  return {wrong, offsets.host(), slots.host(), receipts.host()};
}

template selected select(const snapkv<>&, const scored_rows&, offset_t, int);
template selected select(const pyramidkv<>&, const scored_rows&, offset_t, int);
template selected select(const adakv<snapkv<>>&, const scored_rows&, offset_t, int);

}  // namespace on_device
