// SPDX-License-Identifier: MIT
#pragma once

#include <functional>
#include <span>

#include "kv_memory.hpp"
#include "linear.hpp"

/// The sizes of a model, from its config.json.
struct llama_config {
  int layers = 0, hidden = 0, intermediate = 0, query_heads = 0, kv_heads = 0, dims = 0, vocabulary = 0, positions = 0;
  float rope_theta = 0, norm_epsilon = 0;
};

/// What one layer's attention has just seen: the post-RoPE queries of the new tokens [tokens][query_heads][dims], and
/// the log-sum-exp of their logits [query_heads][tokens].
struct layer_rows {
  int layer = 0, tokens = 0;
  const float* queries = nullptr;
  const float* log_sum_exp = nullptr;
  int sequence = 0;  ///< which one of a batch
};

/// New tokens of one sequence, at the positions `position`, `position` + 1, ..; every sequence of a batch has its own
/// cache.
struct new_tokens {
  std::span<const int> tokens;
  int position = 0;
  kv_memory* cache = nullptr;
  int rows = 0;  ///< logits are wanted of the last `rows` tokens
};

/// A model of the Llama family: RMS norms, rotary positions (halves), grouped queries, SwiGLU, tied embeddings. All
/// arithmetic is fp32; weights are used where the file is mapped, fp32 or bf16.
class llama {
 public:
  /// A folder with config.json and model.safetensors; throws std::runtime_error with a sentence.
  explicit llama(const std::filesystem::path& folder);

  [[nodiscard]] const llama_config& config() const { return config_; }
  /// Bytes of weights that one decoded token reads: all matrices, the embedding as the last of them.
  [[nodiscard]] std::int64_t weight_bytes() const;
  [[nodiscard]] bool bf16() const { return embedding_.bf16; }

  using after_attention = std::function<void(const layer_rows&)>;
  /// Runs new tokens at the positions `position`, `position` + 1, ..: their keys and values are appended to the cache,
  /// each layer attends, and then `after` may evict from that layer. Returns logits [rows][vocabulary] of the last
  /// `rows` tokens.
  std::vector<float> forward(const std::vector<int>& tokens, int position, kv_memory& cache, int rows,
                             const after_attention& after = {}) const;
  /// The same for several sequences, which share the reading of the weights. Logits follow one another in their order.
  std::vector<float> forward(std::span<const new_tokens> batch, const after_attention& after = {}) const;

 private:
  struct layer {
    std::vector<float> attention_norm, mlp_norm;
    matrix queries, keys, values, output, gate, up, down;
  };
  /// Throws where a sequence has tokens that are not in the vocabulary, or more than its cache has room for.
  void check(const new_tokens& of) const;
  /// cos and sin of the angles of a position, [dims / 2] each.
  void angles(int position, float* cosine, float* sine) const;

  llama_config config_;
  tensor_file file_;
  matrix embedding_;
  std::vector<float> norm_;
  std::vector<layer> layers_;
};
