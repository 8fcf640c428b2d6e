// SPDX-License-Identifier: MIT
#pragma once

#include "scoring.hpp"
#include "selecting.hpp"

/// What the device gave, against the CPU backend.
namespace measured {

/// Whether a row's scores are within 4e-5 of the largest of what the CPU gives.
bool right_window(window_kind kind, const scored_row& row);
bool right_accumulated(const scored_row& row);

/// Whether the device kept what the CPU keeps by the same scores: alone; with joint budgets; and as `measure_whole`.
bool right_selection(const selection_run& run, index_t layers, index_t keys, bool joint);
bool right_whole(const selection_run& run, index_t layers, index_t keys);

}  // namespace measured
