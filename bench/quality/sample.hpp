// SPDX-License-Identifier: MIT
#pragma once

#include <filesystem>
#include <string>
#include <vector>

/// What policies are measured on: they evict from the context, then the model reads `follow` token by token and
/// predicts its last `scored` tokens.
struct sample {
  std::string name, measure;
  std::vector<int> context, follow;
  int scored = 0;
};

/// Samples of a file, one JSON object per line; throws std::runtime_error with a sentence that names the line.
std::vector<sample> read_samples(const std::filesystem::path& file);
