// SPDX-License-Identifier: MIT
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "runs.hpp"

/// What a comparison was about.
struct comparison {
  std::string file;
  std::vector<int> layers;
  int future = 0;
  int every = 0;           ///< decode: evicted whenever a row holds so many slots above its budget; 0: prompt only
  int length = 0;          ///< slots before eviction
  int kv_heads = 0;        ///< of all layers
  double entry_bytes = 0;  ///< of a slot of one kv_head, in the file's element type, averaged over the layers
  bool on_device = false;  ///< it ran on both, and what is shown is the device's
  std::vector<policy_run> runs{};
  std::vector<policy_run> sweep{};  ///< the same policies at other budgets, for the picture
};

/// The table, on standard output.
void print_table(const comparison& c);

/// {"SPEC": {"LAYER": [[retained slots of kv_head 0, ascending], ...]}}; after decode, the positions held at its end.
nlohmann::json selection_json(const comparison& c);

/// Everything that the table and the pictures show.
nlohmann::json results_json(const comparison& c);

/// Writes `json` or throws std::runtime_error with a sentence.
void write_json(const nlohmann::json& json, const std::filesystem::path& path);

/// Draws the pictures and the HTML page that holds them into `folder`, with matplotlib.
void draw_pictures(const comparison& c, const std::filesystem::path& folder);
