// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runs.hpp"

/// The device as `compare --backend cuda` uses it: device.cu where the program was built with nvcc, no_device.cpp where
/// it was not.

/// Why there is no device to run on, and what to do about it; empty if there is one.
std::string device_problem();

/// What one policy did to one layer on the device.
struct device_run {
  std::vector<float> scores;          ///< [kv_heads][length]
  std::vector<std::int64_t> offsets;  ///< [kv_heads + 1]
  std::vector<std::int32_t> slots;    ///< retained, head by head
  std::vector<float> keys, values;    ///< of these slots, one after another
  double score_seconds = 0, select_seconds = 0, compact_seconds = 0, copy_seconds = 0;
};

/// Scores, selects and compacts the prompt of a layer on the device, in fp32 as on the CPU. Throws std::runtime_error
/// with the device's own words.
device_run run_on_device(const layer_capture& capture, const task& what, const std::string& spec,
                         kvevict::amount budget);

/// Compares one layer with what the CPU did: `result` holds the CPU's scores and slots and takes over the device's
/// slots and times. Throws std::runtime_error where the device moved other bytes than the slots say.
void take_device_run(const layer_capture& capture, const device_run& device, layer_run& result);
