// SPDX-License-Identifier: MIT
#include "generate.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <random>

namespace {

int choose(const std::vector<float>& logits, float temperature, std::mt19937_64& random) {
  const auto best = std::max_element(logits.begin(), logits.end());
  if (temperature <= 0) return static_cast<int>(best - logits.begin());
  std::vector<double> weights(logits.size());
  std::transform(logits.begin(), logits.end(), weights.begin(),
                 [&](float x) { return std::exp((static_cast<double>(x) - *best) / temperature); });
  double sum = 0, left = 0;
  for (const double w : weights) sum += w;
  left = sum * static_cast<double>(random() >> 11) * 0x1p-53;  // the same draws with every standard library
  int token = 0;
  while (token + 1 < static_cast<int>(weights.size()) && left >= weights[static_cast<std::size_t>(token)])
    left -= weights[static_cast<std::size_t>(token++)];
  return token;
}

}  // namespace

generation generate(const llama& model, const generation_task& task, const std::function<void(int)>& on_token) {
  const llama_config& c = model.config();
  const auto length = static_cast<int>(task.prompt.size());
  if (length < 1) throw std::runtime_error("the prompt has no tokens");
  if (task.chunk < 1) throw std::runtime_error("a chunk needs at least one token");
  if (length + task.tokens > c.positions)
    throw std::runtime_error("the prompt and its continuation have " + std::to_string(length + task.tokens) +
                             " tokens, but the model was made for " + std::to_string(c.positions));
  kv_memory cache(c.layers, c.kv_heads, c.dims, length + task.tokens);
  std::unique_ptr<evictor> policy;
  if (!task.policy.empty()) policy = make_evictor(task.policy, task.budget, c, cache, length);
  generation result;
  std::mt19937_64 random(task.seed);

  const auto since = [](std::chrono::steady_clock::time_point start) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  const auto look = [&] {
    result.held_bytes = cache.resident_bytes();
    result.peak_bytes = std::max(result.peak_bytes, result.held_bytes);
  };
  const auto run = [&](const std::vector<int>& tokens, int position, int slack, bool every_layer, double& seconds) {
    const auto start = std::chrono::steady_clock::now();
    double looking = 0;  // at the memory, which is no part of the work
    std::vector<float> logits = model.forward(tokens, position, cache, 1, [&](const layer_rows& rows) {
      if (!policy) return;
      if (every_layer) {
        const auto start_looking = std::chrono::steady_clock::now();
        look();
        looking += since(start_looking);
      }
      policy->after_attention(rows, slack);
    });
    seconds += since(start) - looking;
    look();
    return logits;
  };
  std::vector<float> logits;
  for (int at = 0; at < length; at += task.chunk) {
    const int end = std::min(length, at + task.chunk);
    logits = run({task.prompt.begin() + at, task.prompt.begin() + end}, at, end == length || task.evict_chunks ? 0 : -1,
                 true, result.prefill_seconds);
  }
  for (int i = 0; i < task.tokens; ++i) {
    const int token = choose(logits, task.temperature, random);
    result.tokens.push_back(token);
    if (on_token) on_token(token);
    if (token == task.end_token || i + 1 == task.tokens) break;
    logits = run({token}, length + i, task.every, false, result.decode_seconds);
  }
  if (policy) {
    result.evict_seconds = policy->seconds();
    result.state_bytes = policy->state_bytes();
  }
  return result;
}
