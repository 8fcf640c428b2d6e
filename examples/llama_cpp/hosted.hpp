// SPDX-License-Identifier: MIT
#pragma once

#include <llama.h>

#include <functional>
#include <kvevict/core/amount.hpp>
#include <kvevict/select/token_set.hpp>
#include <memory>
#include <string>
#include <vector>

/// How a context's cache is kept small.
struct hosting_options {
  std::string policy{};  ///< a spec; empty: nothing is evicted, the full cache
  kvevict::amount budget{};
  kvevict::token_set how = kvevict::token_set::vote;
  int cells = 512;
  int piece = 64;  ///< tokens that are decoded at once, and most that are
};

/// A llama.cpp context of one sequence whose cells a policy governs through the glue. Throws std::runtime_error with a
/// sentence.
class hosted_context {
 public:
  hosted_context(llama_model* model, const hosting_options& options);
  hosted_context(const hosted_context&) = delete;
  hosted_context& operator=(const hosted_context&) = delete;

  /// Decodes the next tokens, after an eviction where there is no room for them. Logits [rows][vocabulary] of the last
  /// `rows` of them, valid until the next call.
  const float* decode(const llama_token* tokens, int count, int rows);

  [[nodiscard]] int held() const { return held_(); }
  [[nodiscard]] int most_held() const { return most_held_; }
  /// Bytes of keys and values in the cells that are in use, as llama.cpp counts them when it saves a sequence.
  [[nodiscard]] std::size_t bytes_held() const { return llama_state_seq_get_size(context_.get(), 0); }
  [[nodiscard]] double seconds() const { return seconds_; }                ///< of everything
  [[nodiscard]] double policy_seconds() const { return policy_seconds_; }  ///< of that, in the library

 private:
  template <class Policy>
  void host(const Policy& policy, const llama_model* model, llama_context_params& params);
  void evict_for(int count);

  hosting_options options_;
  std::function<void()> observe_{};
  std::function<void(llama_context*)> evict_{};
  std::function<int()> held_ = [this] { return position_; };
  std::unique_ptr<llama_context, decltype(&llama_free)> context_{nullptr, llama_free};
  int position_ = 0, most_held_ = 0;
  double seconds_ = 0, policy_seconds_ = 0;
};

/// What is wrong with a spec for this host, or nothing.
std::string check_hosted_policy(const std::string& spec);

/// A model from a GGUF file; llama.cpp says on stderr what it finds wrong, nothing else.
std::unique_ptr<llama_model, decltype(&llama_model_free)> load_model(const std::string& path);
/// The tokens of a text.
std::vector<llama_token> tokenize(const llama_model* model, const std::string& text);
