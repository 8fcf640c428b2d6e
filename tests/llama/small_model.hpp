// SPDX-License-Identifier: MIT
#pragma once

#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

/// A small Llama model of random weights, for tests that need no real one.

inline std::vector<float> noise(std::size_t count, unsigned seed, float scale = 1) {
  std::mt19937 random(seed);
  std::vector<float> x(count);
  for (float& v : x) v = scale * (static_cast<float>(random() >> 8) * 0x1p-23F - 1);
  return x;
}

/// Writes a safetensors file; `tensors` are named fp32 arrays with their shapes, rounded to bf16 if asked for.
inline void write_tensors(
    const std::filesystem::path& path,
    const std::vector<std::pair<std::string, std::pair<std::vector<int>, std::vector<float>>>>& tensors, bool bf16) {
  nlohmann::json header;
  std::string data;
  for (const auto& [name, tensor] : tensors) {
    const std::size_t begin = data.size();
    for (const float x : tensor.second) {
      std::uint32_t bits = 0;
      std::memcpy(&bits, &x, 4);
      const auto upper = static_cast<std::uint16_t>(bits >> 16);
      data.append(bf16 ? reinterpret_cast<const char*>(&upper) : reinterpret_cast<const char*>(&x), bf16 ? 2 : 4);
    }
    header[name] = {{"dtype", bf16 ? "BF16" : "F32"}, {"shape", tensor.first}, {"data_offsets", {begin, data.size()}}};
  }
  const std::string text = header.dump();
  const std::uint64_t size = text.size();
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(&size), 8);
  file << text << data;
}

/// A folder with a small random model, removed at the end.
struct small_model {
  std::filesystem::path folder;
  static constexpr int layers = 2, hidden = 24, wide = 40, query_heads = 4, kv_heads = 2, dims = 8, vocabulary = 50;

  explicit small_model(bool bf16 = false, const std::string& left_out = "") {
    static int count = 0;
    folder = std::filesystem::temp_directory_path() /
             ("kvevict_llama_" + std::to_string(std::random_device{}()) + "_" + std::to_string(count++));
    std::filesystem::create_directory(folder);
    std::vector<std::pair<std::string, std::pair<std::vector<int>, std::vector<float>>>> tensors;
    unsigned seed = 1;
    const auto add = [&](const std::string& name, std::vector<int> shape) {
      if (name == left_out) return;
      std::size_t size = 1;
      for (const int extent : shape) size *= std::size_t(extent);
      tensors.push_back({name + ".weight", {shape, noise(size, seed++, shape.size() == 1 ? 1 : 0.4F)}});
    };
    add("model.embed_tokens", {vocabulary, hidden});
    add("model.norm", {hidden});
    for (int l = 0; l < layers; ++l) {
      const std::string at = "model.layers." + std::to_string(l) + ".";
      add(at + "input_layernorm", {hidden});
      add(at + "post_attention_layernorm", {hidden});
      add(at + "self_attn.q_proj", {query_heads * dims, hidden});
      add(at + "self_attn.k_proj", {kv_heads * dims, hidden});
      add(at + "self_attn.v_proj", {kv_heads * dims, hidden});
      add(at + "self_attn.o_proj", {hidden, query_heads * dims});
      add(at + "mlp.gate_proj", {wide, hidden});
      add(at + "mlp.up_proj", {wide, hidden});
      add(at + "mlp.down_proj", {hidden, wide});
    }
    write_tensors(folder / "model.safetensors", tensors, bf16);
    std::ofstream(folder / "config.json") << nlohmann::json{{"num_hidden_layers", layers},
                                                            {"hidden_size", hidden},
                                                            {"intermediate_size", wide},
                                                            {"num_attention_heads", query_heads},
                                                            {"num_key_value_heads", kv_heads},
                                                            {"head_dim", dims},
                                                            {"vocab_size", vocabulary},
                                                            {"max_position_embeddings", 1000},
                                                            {"rope_theta", 10000},
                                                            {"rms_norm_eps", 1e-5}};
  }
  ~small_model() { std::filesystem::remove_all(folder); }
  small_model(const small_model&) = delete;
  small_model& operator=(const small_model&) = delete;
};

inline std::vector<int> some_tokens(int count) {
  std::vector<int> tokens;
  for (int i = 0; i < count; ++i) tokens.push_back((i * i * 7 + i) % small_model::vocabulary);
  return tokens;
}
