// SPDX-License-Identifier: MIT
#pragma once

#include <filesystem>
#include <tensor_file.hpp>
#include <vector>

#include "layer_capture.hpp"

/// A safetensors file with layers.L.queries, layers.L.keys and layers.L.values (fp32, fp16 or bf16). The constructor
/// checks all of them, so that loading a layer cannot fail.
class capture_file {
 public:
  explicit capture_file(const std::filesystem::path& path);

  /// Layers in the file, ascending.
  [[nodiscard]] const std::vector<int>& layers() const { return layers_; }
  [[nodiscard]] layer_capture load(int layer) const;

 private:
  [[nodiscard]] file_tensor find(int layer, const char* what) const;

  tensor_file file_;
  std::vector<int> layers_;
};
