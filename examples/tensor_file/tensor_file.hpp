// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

/// What is wrong with a file, as a sentence that names the file, the tensor and the reason.
struct file_error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// A tensor as it lies in a file.
struct file_tensor {
  std::string dtype;  ///< F32, F16 or BF16
  std::vector<std::int64_t> shape;
  const std::byte* data = nullptr;  ///< as long as its file lives

  [[nodiscard]] std::int64_t count() const;
  /// Converted: fp16 and bf16 become fp32 without loss.
  [[nodiscard]] std::vector<float> floats() const;
};

/// A safetensors file, mapped into memory: what is not looked at is not read. The constructor checks the header against
/// the size of the file, `tensor` what it hands out, so that nothing outside of the file is reached.
class tensor_file {
 public:
  explicit tensor_file(const std::filesystem::path& path);
  ~tensor_file();
  tensor_file(const tensor_file&) = delete;
  tensor_file& operator=(const tensor_file&) = delete;

  /// Every name in the header, sorted.
  [[nodiscard]] std::vector<std::string> names() const;
  /// The tensor of that name; throws where it is missing, damaged or of another dtype.
  [[nodiscard]] file_tensor tensor(const std::string& name) const;
  /// Throws a file_error that begins with the file's name.
  [[noreturn]] void fail(const std::string& reason) const;

 private:
  std::filesystem::path path_;
  nlohmann::json header_;
  std::byte* map_ = nullptr;
  std::uint64_t bytes_ = 0, data_at_ = 0;
};
