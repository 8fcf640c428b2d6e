// SPDX-License-Identifier: MIT
#pragma once

#include <filesystem>
#include <tensor_file.hpp>
#include <vector>

/// What a policy and its judge need of one layer of a model, as floats (fp16 becomes fp32 without loss).
struct layer_capture {
  int layer = 0;
  int query_heads = 0, kv_heads = 0;
  int rows = 0;    ///< query rows: the last `rows` positions
  int length = 0;  ///< slots
  int dim = 0, value_dim = 0;
  int element_bytes = 0;       ///< of keys and values in the file
  std::vector<float> queries;  ///< [query_heads][rows][dim], post-RoPE
  std::vector<float> keys;     ///< [kv_heads][length][dim], post-RoPE
  std::vector<float> values;   ///< [kv_heads][length][value_dim]
};

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
