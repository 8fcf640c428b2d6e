// SPDX-License-Identifier: MIT
#include "hosted.hpp"

#include <algorithm>
#include <chrono>
#include <kvevict/policy/spec.hpp>
#include <thread>

#include "glue.hpp"

namespace {

/// Adds the seconds that a call takes.
template <class F>
void timed(double& seconds, const F& f) {
  const auto start = std::chrono::steady_clock::now();
  f();
  seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Calls f with the policy of a spec that llama.cpp can host; nothing, or what is wrong.
template <class F>
std::string visit_hosted_policy(const std::string& spec, kvevict::amount budget, const F& f) {
  std::string problem;
  const std::string wrong_spec = kvevict::visit_policy(spec, budget, [&](const auto& policy) {
    if constexpr (std::is_same_v<decltype(policy.rule()), kvevict::budget::uniform>)
      f(policy);
    else
      problem = spec + " gives layers or heads budgets of their own, but in llama.cpp they all hold the same tokens" +
                (spec.starts_with("ada_") ? "; " + spec.substr(4) + " can run" : "");
  });
  return wrong_spec.empty() ? problem : wrong_spec;
}

}  // namespace

std::string check_hosted_policy(const std::string& spec) {
  return visit_hosted_policy(spec, kvevict::percent(50), [](const auto&) {});
}

hosted_context::hosted_context(llama_model* model, const hosting_options& options) : options_(options) {
  options_.cells = (options.cells + 255) / 256 * 256;
  if (options.piece < 1 || options.piece > options_.cells)
    throw std::runtime_error("a piece has at least one token, and no more than there are cells");
  if (llama_model_n_swa(model) > 0 || llama_model_is_recurrent(model) || llama_model_is_hybrid(model))
    throw std::runtime_error("not all layers of this model attend to all tokens, and the glue knows no other");
  llama_context_params params = llama_context_default_params();
  params.n_ctx = static_cast<std::uint32_t>(options_.cells);
  params.n_batch = params.n_ubatch = static_cast<std::uint32_t>(options.piece);
  params.n_threads = params.n_threads_batch = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
  if (!options.policy.empty()) {
    const std::string problem = visit_hosted_policy(options.policy, options.budget, [&](const auto& policy) {
      if (policy.rule().nominal({}, {{}, options_.cells}) + options.piece > options_.cells &&
          !std::is_same_v<std::remove_cvref_t<decltype(policy)>, kvevict::full>)
        throw std::runtime_error("a budget of " + std::to_string(policy.budget.of(options_.cells)) + " and pieces of " +
                                 std::to_string(options.piece) + " tokens do not fit " +
                                 std::to_string(options_.cells) + " cells");
      host(policy, model, params);
    });
    if (!problem.empty()) throw std::runtime_error(problem);
  }
  context_.reset(llama_init_from_model(model, params));
  if (!context_) throw std::runtime_error("llama.cpp could not make a context");
}

template <class Policy>
void hosted_context::host(const Policy& policy, const llama_model* model, llama_context_params& params) {
  const auto sequence = std::make_shared<hosting::sequence<Policy>>(policy, options_.how, model, params);
  observe_ = [sequence] { sequence->observe(); };
  evict_ = [sequence](llama_context* context) { sequence->evict(context); };
  held_ = [sequence] { return sequence->held(); };
}

void hosted_context::evict_for(int count) {
  if (held() + count <= options_.cells) return;
  if (evict_) timed(policy_seconds_, [&] { evict_(context_.get()); });
  if (held() + count > options_.cells)
    throw std::runtime_error("it keeps " + std::to_string(held()) + " tokens, which leaves no room for " +
                             std::to_string(count) + " more in " + std::to_string(options_.cells) +
                             " cells; a smaller budget would, or voting where it is a union");
}

const float* hosted_context::decode(const llama_token* tokens, int count, int rows) {
  timed(seconds_, [&] {
    evict_for(count);
    llama_batch batch = llama_batch_init(count, 0, 1);
    for (int i = 0; i < count; ++i) {
      batch.token[i] = tokens[i];
      batch.pos[i] = position_ + i;
      batch.n_seq_id[i] = 1;
      batch.seq_id[i][0] = 0;
      batch.logits[i] = i >= count - rows;
    }
    batch.n_tokens = count;
    const int problem = llama_decode(context_.get(), batch);
    llama_batch_free(batch);
    if (problem != 0) throw std::runtime_error("llama_decode failed with " + std::to_string(problem));
    position_ += count;
    if (observe_) timed(policy_seconds_, observe_);
    most_held_ = std::max(most_held_, held());
  });
  return rows > 0 ? llama_get_logits(context_.get()) : nullptr;
}

std::unique_ptr<llama_model, decltype(&llama_model_free)> load_model(const std::string& path) {
  llama_log_set(
      [](ggml_log_level level, const char* text, void*) {
        if (level == GGML_LOG_LEVEL_ERROR) std::fputs(text, stderr);
      },
      nullptr);
  std::unique_ptr<llama_model, decltype(&llama_model_free)> model(
      llama_model_load_from_file(path.c_str(), llama_model_default_params()), llama_model_free);
  if (!model) throw std::runtime_error(path + " is no model that llama.cpp can read");
  return model;
}

std::vector<llama_token> tokenize(const llama_model* model, const std::string& text) {
  const llama_vocab* const vocabulary = llama_model_get_vocab(model);
  std::vector<llama_token> tokens(text.size() + 8);
  const int count = llama_tokenize(vocabulary, text.data(), static_cast<int>(text.size()), tokens.data(),
                                   static_cast<int>(tokens.size()), true, false);
  if (count < 0) throw std::runtime_error("the text has more tokens than bytes");
  tokens.resize(static_cast<std::size_t>(count));
  return tokens;
}
