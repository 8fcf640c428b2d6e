// SPDX-License-Identifier: MIT
#include "tensor_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <kvevict/core/element.hpp>

namespace {

std::uint64_t size_of(const std::string& dtype) {
  return dtype == "F32" ? 4 : dtype == "F16" || dtype == "BF16" ? 2 : 0;
}

}  // namespace

std::int64_t file_tensor::count() const {
  std::int64_t n = 1;
  for (const std::int64_t extent : shape) n *= extent;
  return n;
}

std::vector<float> file_tensor::floats() const {
  std::vector<float> out(static_cast<std::size_t>(count()));
  if (dtype == "F32") {
    std::memcpy(out.data(), data, out.size() * sizeof(float));
    return out;
  }
  for (std::size_t i = 0; i < out.size(); ++i) {
    std::uint16_t bits = 0;
    std::memcpy(&bits, data + i * sizeof bits, sizeof bits);
    out[i] = dtype == "F16" ? kvevict::to_float(kvevict::half{bits}) : kvevict::to_float(kvevict::bfloat16{bits});
  }
  return out;
}

void tensor_file::fail(const std::string& reason) const { throw file_error(path_.string() + ": " + reason); }

tensor_file::tensor_file(const std::filesystem::path& path) : path_(path) {
  std::error_code error;
  bytes_ = std::filesystem::file_size(path, error);
  const int file = error ? -1 : ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) fail("cannot be opened for reading");
  void* const map = bytes_ < 8 ? MAP_FAILED : ::mmap(nullptr, bytes_, PROT_READ, MAP_PRIVATE, file, 0);
  ::close(file);
  if (bytes_ < 8) fail("too short for a safetensors file (it starts with the 8-byte length of its header)");
  if (map == MAP_FAILED) fail("cannot be mapped into memory");
  map_ = static_cast<std::byte*>(map);

  std::uint64_t header_bytes = 0;
  for (int i = 7; i >= 0; --i) header_bytes = header_bytes << 8 | std::to_integer<std::uint64_t>(map_[i]);
  std::string problem;
  if (header_bytes > bytes_ - 8) {
    problem = "the header should have " + std::to_string(header_bytes) +
              " bytes, but the file ends before; it is truncated or not safetensors";
  } else {
    const auto* const text = reinterpret_cast<const char*>(map_ + 8);
    header_ = nlohmann::json::parse(text, text + header_bytes, nullptr, false);
    if (!header_.is_object()) problem = "the header is not a JSON object; this is not a safetensors file";
  }
  if (!problem.empty()) {
    ::munmap(map_, bytes_);
    fail(problem);
  }
  data_at_ = 8 + header_bytes;
}

tensor_file::~tensor_file() { ::munmap(map_, bytes_); }

std::vector<std::string> tensor_file::names() const {
  std::vector<std::string> all;
  for (const auto& [name, entry] : header_.items()) all.push_back(name);
  return all;
}

file_tensor tensor_file::tensor(const std::string& name) const {
  const std::string what = "tensor " + name + ": ";
  if (!header_.contains(name)) fail("tensor " + name + " is missing");
  const nlohmann::json& entry = header_[name];
  if (!entry.is_object() || !entry.contains("dtype") || !entry.contains("shape") || !entry.contains("data_offsets"))
    fail(what + "its header entry needs dtype, shape and data_offsets");
  file_tensor t;
  if (!entry["dtype"].is_string() || size_of(t.dtype = entry["dtype"].get<std::string>()) == 0)
    fail(what + "its dtype must be F32, F16 or BF16, not " + entry["dtype"].dump());
  const nlohmann::json& shape = entry["shape"];
  if (!shape.is_array()) fail(what + "its shape must be an array, not " + shape.dump());
  std::uint64_t size = size_of(t.dtype);
  for (const nlohmann::json& extent : shape) {
    if (!extent.is_number_unsigned() || extent.get<std::uint64_t>() < 1 || extent.get<std::uint64_t>() > 2147483646u ||
        size > (std::uint64_t{1} << 62) / extent.get<std::uint64_t>())
      fail(what + "every extent of its shape must be from 1 to 2^31 - 2, not " + shape.dump());
    t.shape.push_back(extent.get<std::int64_t>());
    size *= extent.get<std::uint64_t>();
  }
  const nlohmann::json& offsets = entry["data_offsets"];
  if (!offsets.is_array() || offsets.size() != 2 || !offsets[0].is_number_unsigned() ||
      !offsets[1].is_number_unsigned())
    fail(what + "its data_offsets must be two numbers, not " + offsets.dump());
  const std::uint64_t begin = offsets[0].get<std::uint64_t>(), end = offsets[1].get<std::uint64_t>();
  if (begin > end || end > bytes_ - data_at_)
    fail(what + "its data_offsets " + offsets.dump() + " reach past the end of the file, which holds " +
         std::to_string(bytes_ - data_at_) + " bytes of data; the file is truncated or damaged");
  if (end - begin != size)
    fail(what + "its data_offsets " + offsets.dump() + " hold " + std::to_string(end - begin) + " bytes, but " +
         t.dtype + " " + shape.dump() + " needs " + std::to_string(size));
  t.data = map_ + data_at_ + begin;
  return t;
}
