// SPDX-License-Identifier: MIT
#include "capture_file.hpp"

#include <algorithm>
#include <charconv>
#include <kvevict/core/element.hpp>
#include <nlohmann/json.hpp>
#include <set>

namespace {

std::uint64_t size_of(const std::string& dtype) {
  return dtype == "F32" ? 4 : dtype == "F16" || dtype == "BF16" ? 2 : 0;
}

/// The layer number of "layers.L.keys" and its like, or -1.
int layer_of(const std::string& name) {
  constexpr std::string_view prefix = "layers.";
  if (!name.starts_with(prefix)) return -1;
  const std::string_view rest = std::string_view(name).substr(prefix.size());
  int layer = -1;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), layer);
  const std::string_view what = rest.substr(static_cast<std::size_t>(end - rest.data()));
  const bool known = what == ".queries" || what == ".keys" || what == ".values";
  return error == std::errc{} && layer >= 0 && known ? layer : -1;
}

}  // namespace

void capture_file::fail(const std::string& reason) const { throw capture_error(path_.string() + ": " + reason); }

capture_file::capture_file(const std::filesystem::path& path) : path_(path) {
  std::error_code error;
  const std::uint64_t bytes = std::filesystem::file_size(path, error);
  std::ifstream file(path, std::ios::binary);
  if (error || !file) fail("cannot be opened for reading");
  unsigned char prefix[8] = {};
  if (bytes < 8 || !file.read(reinterpret_cast<char*>(prefix), 8))
    fail("too short for a safetensors file (it starts with the 8-byte length of its header)");
  std::uint64_t header_bytes = 0;
  for (int i = 7; i >= 0; --i) header_bytes = header_bytes << 8 | prefix[i];
  if (header_bytes > bytes - 8)
    fail("the header should have " + std::to_string(header_bytes) +
         " bytes, but the file ends before; it is truncated or not safetensors");
  std::string text(header_bytes, '\0');
  if (!file.read(text.data(), static_cast<std::streamsize>(text.size()))) fail("the header cannot be read");
  const nlohmann::json header = nlohmann::json::parse(text, nullptr, false);
  if (!header.is_object()) fail("the header is not a JSON object; this is not a safetensors file");

  const std::uint64_t data_bytes = bytes - 8 - header_bytes;
  std::set<int> layers;
  for (const auto& [name, entry] : header.items()) {
    const int layer = layer_of(name);
    if (layer < 0) continue;
    const std::string what = "tensor " + name + ": ";
    if (!entry.is_object() || !entry.contains("dtype") || !entry.contains("shape") || !entry.contains("data_offsets"))
      fail(what + "its header entry needs dtype, shape and data_offsets");
    tensor t;
    if (!entry["dtype"].is_string() || size_of(t.dtype = entry["dtype"].get<std::string>()) == 0)
      fail(what + "its dtype must be F32, F16 or BF16, not " + entry["dtype"].dump());
    const auto& shape = entry["shape"];
    if (!shape.is_array() || shape.size() != 3)
      fail(what + "its shape must be [heads, positions, dim], not " + shape.dump());
    std::uint64_t size = size_of(t.dtype);
    for (std::size_t i = 0; i < 3; ++i) {
      if (!shape[i].is_number_unsigned() || shape[i].get<std::uint64_t>() < 1 ||
          shape[i].get<std::uint64_t>() > 2147483646u ||
          size > (std::uint64_t{1} << 62) / shape[i].get<std::uint64_t>())
        fail(what + "every extent of its shape must be from 1 to 2^31 - 2, not " + shape.dump());
      t.shape[i] = shape[i].get<std::int64_t>();
      size *= shape[i].get<std::uint64_t>();
    }
    const auto& offsets = entry["data_offsets"];
    if (!offsets.is_array() || offsets.size() != 2 || !offsets[0].is_number_unsigned() ||
        !offsets[1].is_number_unsigned())
      fail(what + "its data_offsets must be two numbers, not " + offsets.dump());
    const std::uint64_t begin = offsets[0].get<std::uint64_t>(), end = offsets[1].get<std::uint64_t>();
    if (begin > end || end > data_bytes)
      fail(what + "its data_offsets " + offsets.dump() + " reach past the end of the file, which holds " +
           std::to_string(data_bytes) + " bytes of data; the file is truncated or damaged");
    if (end - begin != size)
      fail(what + "its data_offsets " + offsets.dump() + " hold " + std::to_string(end - begin) + " bytes, but " +
           t.dtype + " " + shape.dump() + " needs " + std::to_string(size));
    t.begin = 8 + header_bytes + begin;
    tensors_[name] = t;
    layers.insert(layer);
  }
  if (layers.empty()) fail("no tensor is named layers.L.queries, layers.L.keys or layers.L.values");
  layers_.assign(layers.begin(), layers.end());

  for (const int layer : layers_) {
    const std::string at = "tensor layers." + std::to_string(layer) + ".";
    const tensor &q = find(layer, "queries"), &k = find(layer, "keys"), &v = find(layer, "values");
    if (v.shape[0] != k.shape[0] || v.shape[1] != k.shape[1])
      fail(at + "values: its kv_heads and positions must be those of the keys");
    if (q.shape[2] != k.shape[2]) fail(at + "queries: its dim must be that of the keys");
    if (q.shape[0] % k.shape[0] != 0) fail(at + "queries: its query_heads must be a multiple of the kv_heads");
    if (q.shape[1] > k.shape[1]) fail(at + "queries: it has more rows than there are positions");
  }
}

const capture_file::tensor& capture_file::find(int layer, const char* what) const {
  const std::string name = "layers." + std::to_string(layer) + "." + what;
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) fail("tensor " + name + " is missing");
  return found->second;
}

std::vector<float> capture_file::read(const tensor& t, const std::string& name) const {
  const auto count = static_cast<std::size_t>(t.shape[0] * t.shape[1] * t.shape[2]);
  std::ifstream file(path_, std::ios::binary);
  file.seekg(static_cast<std::streamoff>(t.begin));
  std::vector<float> out(count);
  if (t.dtype == "F32") {
    file.read(reinterpret_cast<char*>(out.data()), static_cast<std::streamsize>(count * 4));
  } else {
    std::vector<std::uint16_t> raw(count);
    file.read(reinterpret_cast<char*>(raw.data()), static_cast<std::streamsize>(count * 2));
    const bool is_half = t.dtype == "F16";
    std::transform(raw.begin(), raw.end(), out.begin(), [&](std::uint16_t bits) {
      return is_half ? kvevict::to_float(kvevict::half{bits}) : kvevict::to_float(kvevict::bfloat16{bits});
    });
  }
  if (!file) fail("tensor " + name + ": its data cannot be read");
  return out;
}

layer_capture capture_file::load(int layer) const {
  const tensor &q = find(layer, "queries"), &k = find(layer, "keys"), &v = find(layer, "values");
  const std::string at = "layers." + std::to_string(layer) + ".";
  layer_capture c;
  c.layer = layer;
  c.query_heads = static_cast<int>(q.shape[0]);
  c.kv_heads = static_cast<int>(k.shape[0]);
  c.rows = static_cast<int>(q.shape[1]);
  c.length = static_cast<int>(k.shape[1]);
  c.dim = static_cast<int>(k.shape[2]);
  c.value_dim = static_cast<int>(v.shape[2]);
  c.element_bytes = static_cast<int>(size_of(k.dtype));
  c.queries = read(q, at + "queries");
  c.keys = read(k, at + "keys");
  c.values = read(v, at + "values");
  return c;
}
