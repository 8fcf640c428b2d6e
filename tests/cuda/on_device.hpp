// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/kvevict.hpp>
#include <kvevict/view/row_scores.hpp>
#include <vector>

/// What the two compilers of the device tests have in common: on_device.cpp knows what must come out, on_device.cu runs
/// the device.
namespace on_device {

using kvevict::index_t;
using kvevict::offset_t;

struct scored_rows {
  kvevict::cache_shape shape;
  std::vector<offset_t> offsets{0};
  std::vector<float> scores;
};

struct kept_slots {
  std::vector<offset_t> offsets;
  std::vector<index_t> slots;
};

/// Whether there is a device.
bool found();

/// The selection after `runs` runs in one stream, captured into a graph where `captured`; empty where a call failed.
template <class Policy>
kept_slots select(const Policy& policy, const scored_rows& in, int runs, bool captured);

/// What one call says; it may be refused before it reaches a device.
kvevict::status one_call(const kvevict::row_scores& in, const kvevict::selection& out,
                         const kvevict::workspace& memory);
offset_t needed_workspace(const kvevict::row_scores& in);

}  // namespace on_device
