// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
#include <stdexcept>

#include "device.hpp"

namespace {

/// Whether the compacted entries are those of the slots, byte by byte.
bool right_bytes(const std::vector<float>& from, const std::vector<float>& to,
                 const std::vector<std::vector<int>>& slots, int length, int dims) {
  const auto bytes = static_cast<std::size_t>(dims) * sizeof(float);
  const float* next = to.data();
  for (std::size_t head = 0; head < slots.size(); ++head)
    for (const int slot : slots[head]) {
      const float* const entry = from.data() + (static_cast<std::ptrdiff_t>(head) * length + slot) * dims;
      if (std::memcmp(entry, next, bytes) != 0) return false;
      next += dims;
    }
  return true;
}

}  // namespace

void take_device_run(const layer_capture& c, const device_run& device, layer_run& result) {
  agreement& a = result.agrees;
  std::vector<std::vector<int>> slots;
  const std::size_t length = device.scores.size() / (device.offsets.size() - 1);
  for (std::size_t head = 0; head < result.retained.size(); ++head) {
    const std::vector<int>& on_cpu = result.retained[head];
    const auto& mine = slots.emplace_back(device.slots.begin() + device.offsets[head],
                                          device.slots.begin() + device.offsets[head + 1]);
    a.slots += on_cpu.size();
    std::vector<int> differ;
    std::set_symmetric_difference(on_cpu.begin(), on_cpu.end(), mine.begin(), mine.end(), std::back_inserter(differ));
    a.differ += differ.size();
    if (result.scores.empty()) continue;
    const float* const scores = result.scores.data() + head * length;
    float largest = 1e-30F, error = 0, distance = 0;
    for (std::size_t i = 0; i < length; ++i) {
      largest = std::max(largest, std::abs(scores[i]));
      error = std::max(error, std::abs(device.scores[head * length + i] - scores[i]));
    }
    for (const int slot : differ) distance = std::max(distance, std::abs(scores[slot] - result.thresholds[head]));
    a.score_error = std::max(a.score_error, static_cast<double>(error / largest));
    a.margin = std::max(a.margin, static_cast<double>(distance / largest));
  }
  if (!right_bytes(c.keys, device.keys, slots, c.length, c.dim) ||
      !right_bytes(c.values, device.values, slots, c.length, c.value_dim))
    throw std::runtime_error("the device compacted other entries than it selected");
  result.retained = slots;
  result.evictions = {{0, slots}};
  result.score_seconds = device.score_seconds;
  result.select_seconds = device.select_seconds;
  result.compact_seconds = device.compact_seconds;
  result.copy_seconds = device.copy_seconds;
  result.scores = {};  // they were for this alone
}
