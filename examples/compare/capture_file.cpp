// SPDX-License-Identifier: MIT
#include "capture_file.hpp"

#include <charconv>
#include <set>

namespace {

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

capture_file::capture_file(const std::filesystem::path& path) : file_(path) {
  std::set<int> layers;
  for (const std::string& name : file_.names()) {
    const int layer = layer_of(name);
    if (layer < 0) continue;
    if (file_.tensor(name).shape.size() != 3)
      file_.fail("tensor " + name + ": its shape must be [heads, positions, dim]");
    layers.insert(layer);
  }
  if (layers.empty()) file_.fail("no tensor is named layers.L.queries, layers.L.keys or layers.L.values");
  layers_.assign(layers.begin(), layers.end());

  for (const int layer : layers_) {
    const std::string at = "tensor layers." + std::to_string(layer) + ".";
    const file_tensor q = find(layer, "queries"), k = find(layer, "keys"), v = find(layer, "values");
    if (v.shape[0] != k.shape[0] || v.shape[1] != k.shape[1])
      file_.fail(at + "values: its kv_heads and positions must be those of the keys");
    if (q.shape[2] != k.shape[2]) file_.fail(at + "queries: its dim must be that of the keys");
    if (q.shape[0] % k.shape[0] != 0) file_.fail(at + "queries: its query_heads must be a multiple of the kv_heads");
    if (q.shape[1] > k.shape[1]) file_.fail(at + "queries: it has more rows than there are positions");
  }
}

file_tensor capture_file::find(int layer, const char* what) const {
  return file_.tensor("layers." + std::to_string(layer) + "." + what);
}

layer_capture capture_file::load(int layer) const {
  const file_tensor q = find(layer, "queries"), k = find(layer, "keys"), v = find(layer, "values");
  layer_capture c;
  c.layer = layer;
  c.query_heads = static_cast<int>(q.shape[0]);
  c.kv_heads = static_cast<int>(k.shape[0]);
  c.rows = static_cast<int>(q.shape[1]);
  c.length = static_cast<int>(k.shape[1]);
  c.dim = static_cast<int>(k.shape[2]);
  c.value_dim = static_cast<int>(v.shape[2]);
  c.element_bytes = k.dtype == "F32" ? 4 : 2;
  c.queries = q.floats();
  c.keys = k.floats();
  c.values = v.floats();
  return c;
}
