// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <stdexcept>
#include <string>
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

/// What is wrong with a file, as a sentence that names the file, the tensor and the reason.
struct capture_error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// A safetensors file with layers.L.queries, layers.L.keys and layers.L.values (fp32, fp16 or bf16). The constructor
/// checks the whole header against the size of the file, so that loading a layer reads nothing outside it.
class capture_file {
 public:
  explicit capture_file(const std::filesystem::path& path);

  /// Layers in the file, ascending.
  [[nodiscard]] const std::vector<int>& layers() const { return layers_; }
  [[nodiscard]] layer_capture load(int layer) const;

 private:
  struct tensor {
    std::string dtype;
    std::int64_t shape[3] = {};
    std::uint64_t begin = 0;  ///< from the start of the file
  };
  [[nodiscard]] const tensor& find(int layer, const char* what) const;
  [[nodiscard]] std::vector<float> read(const tensor& t, const std::string& name) const;
  [[noreturn]] void fail(const std::string& reason) const;

  std::filesystem::path path_;
  std::map<std::string, tensor> tensors_;
  std::vector<int> layers_;
};
