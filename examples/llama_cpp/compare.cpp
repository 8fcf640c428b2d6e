// SPDX-License-Identifier: MIT
#include "compare.hpp"

#include <algorithm>
#include <stdexcept>

namespace {

/// The mean of `count` positions and of `more` of another.
comparison merged(const comparison& a, int count, const comparison& b, int more) {
  const double share = static_cast<double>(more) / (count + more);
  const auto mean = [&](double comparison::*of) { return a.*of + share * (b.*of - a.*of); };
  return {mean(&comparison::kld),       mean(&comparison::log_kld),  mean(&comparison::nll),
          mean(&comparison::agreement), mean(&comparison::accuracy), (count == 0 || a.exact) && b.exact};
}

}  // namespace

std::vector<hosted_run> compare(llama_model* model, const std::vector<llama_token>& tokens, int scored,
                                const std::vector<hosting_options>& options,
                                const std::function<void(int, const std::vector<hosted_run>&)>& progress) {
  const int count = static_cast<int>(tokens.size()) - 1;  // the last one is only predicted
  if (scored < 1 || scored > count) throw std::runtime_error("at least one token is scored, and not the first");
  if (options.empty()) return {};
  const int piece = options.front().piece, vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(model));
  std::vector<hosted_run> runs{{.options = {.cells = count, .piece = piece}}};
  for (const hosting_options& o : options) runs.push_back({.options = o});
  std::vector<std::unique_ptr<hosted_context>> contexts;
  for (hosted_run& run : runs) try {
      contexts.push_back(std::make_unique<hosted_context>(model, run.options));
    } catch (const std::runtime_error& error) {
      run.problem = error.what();
      contexts.emplace_back();
    }
  for (int at = 0; at < count; at += piece) {
    const int end = std::min(count, at + piece), before = std::max(0, at - (count - scored)),
              rows = std::max(0, end - (count - scored)) - before;
    std::unique_ptr<full_predictions> full;
    for (std::size_t i = 0; i < runs.size(); ++i) try {
        if (!contexts[i]) continue;
        const float* const logits = contexts[i]->decode(tokens.data() + at, end - at, rows);
        if (rows == 0) continue;
        if (i == 0)
          full = std::make_unique<full_predictions>(
              std::vector<float>(logits, logits + std::ptrdiff_t{rows} * vocabulary),
              std::vector<int>(tokens.begin() + end - rows + 1, tokens.begin() + end + 1));
        runs[i].mean = merged(runs[i].mean, before, full->compare(logits), rows);
      } catch (const std::runtime_error& error) {
        if (i == 0) throw;
        runs[i].problem = error.what();
        contexts[i].reset();
      }
    for (std::size_t i = 0; i < runs.size(); ++i)
      if (contexts[i]) {
        runs[i].most_held = contexts[i]->most_held();
        runs[i].seconds = contexts[i]->seconds();
        runs[i].policy_seconds = contexts[i]->policy_seconds();
        if (end == count) runs[i].bytes = contexts[i]->bytes_held();
      }
    if (progress) progress(end, runs);
  }
  return runs;
}
