// SPDX-License-Identifier: MIT
// A text through an unpatched llama.cpp: with its full cache, and in few cells under each policy. ./dev llama-cpp
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <kvevict/policy/spec.hpp>
#include <nlohmann/json.hpp>
#include <sstream>

#include "compare.hpp"

namespace {

std::string read(const std::vector<std::string>& paths) {
  std::string all;
  for (const std::string& path : paths) {
    std::ifstream file(path, std::ios::binary);
    std::stringstream text;
    text << file.rdbuf();
    if (!file) throw std::runtime_error("--text: " + path + " cannot be read");
    all += (all.empty() ? "" : "\n\n") + text.str();
  }
  return all;
}

const char* name_of(const hosted_run& run) { return run.options.policy.empty() ? "full" : run.options.policy.c_str(); }

void print(const std::vector<hosted_run>& runs, int tokens) {
  std::size_t width = 6;
  for (const hosted_run& run : runs) width = std::max(width, std::string(name_of(run)).size());
  const int w = static_cast<int>(width);
  std::printf("%-*s  cells  KV MiB  perplexity     KLD  geometric  top-1  tokens/s  in the policy\n", w, "");
  for (const hosted_run& run : runs)
    if (run.problem.empty())
      std::printf("%-*s  %5d  %6.1f  %10.2f  %6.4f  %9.4f  %4.1f%%  %8.0f  %12.1f%%\n", w, name_of(run), run.most_held,
                  static_cast<double>(run.bytes) / 0x1p20, std::exp(run.mean.nll), std::max(0.0, run.mean.kld),
                  std::exp(run.mean.log_kld), 100 * run.mean.agreement, tokens / run.seconds,
                  100 * run.policy_seconds / run.seconds);
    else
      std::printf("%-*s  not run: %s\n", w, name_of(run), run.problem.c_str());
}

void save(const std::string& path, const std::vector<hosted_run>& runs, int tokens, int scored) {
  nlohmann::json all = nlohmann::json::array();
  for (const hosted_run& run : runs) {
    nlohmann::json line{
        {"policy", name_of(run)},     {"tokens", tokens},
        {"scored", scored},           {"cells", run.options.cells},
        {"piece", run.options.piece}, {"set", run.options.how == kvevict::token_set::vote ? "vote" : "union"}};
    if (run.problem.empty())
      line.update({{"budget", run.options.budget.of(run.options.cells)},
                   {"most_held", run.most_held},
                   {"kv_bytes", run.bytes},
                   {"perplexity", std::exp(run.mean.nll)},
                   {"kld", run.mean.kld},
                   {"log_kld", run.mean.log_kld},
                   {"agreement", run.mean.agreement},
                   {"seconds", run.seconds},
                   {"policy_seconds", run.policy_seconds}});
    else
      line["problem"] = run.problem;
    all.push_back(line);
  }
  std::ofstream(path) << all.dump(2) << '\n';
}

}  // namespace

int main(int argc, char** argv) try {
  CLI::App app{
      "A text through an unpatched llama.cpp, with its full cache and in few cells under each policy. All layers and\n"
      "heads hold the same tokens, those that most heads vote for. Flash attention is off."};
  std::string path = KVEVICT_LLAMA_CPP_MODEL, budget, json;
  std::vector<std::string> texts;
  std::vector<std::string> policies{"streaming_llm", "h2o", "tova", "snapkv", "ahakv", "keydiff"};
  hosting_options options;
  int most = 6000, scored = 0;
  bool one_of_all = false;
  app.add_option("--text", texts, "a file with a text; several are run as one")->required();
  app.add_option("--policy", policies, "a spec, several times: snapkv, ahakv:window=16, ..")->capture_default_str();
  app.add_option("--cells", options.cells, "of the context, rounded up to a multiple of 256")->capture_default_str();
  app.add_option("--budget", budget, "tokens that stay, or a share of the cells; default: cells - piece");
  app.add_option("--piece", options.piece, "tokens that are decoded at once, evicting first")->capture_default_str();
  app.add_option("--tokens", most, "of the text, at most")->capture_default_str();
  app.add_option("--scored", scored, "the last tokens, which are scored; default: all behind the first `cells`");
  app.add_flag("--union,!--vote", one_of_all, "keep what any head wants, more than the budget, instead of a vote");
  app.add_option("--json", json, "everything measured, into this file");
  app.add_option("--model", path, "a GGUF file")->capture_default_str();
  CLI11_PARSE(app, argc, argv);

  options.cells = (options.cells + 255) / 256 * 256;
  options.how = one_of_all ? kvevict::token_set::union_of : kvevict::token_set::vote;
  options.budget = kvevict::slots(options.cells - options.piece);
  if (!budget.empty() && !kvevict::parse_amount(budget, options.budget))
    throw std::runtime_error("--budget: '" + budget + "' is neither a number of tokens nor a share such as 25%");
  std::vector<hosting_options> each(policies.size(), options);
  for (std::size_t i = 0; i < each.size(); ++i) {
    each[i].policy = policies[i];
    if (const std::string problem = check_hosted_policy(policies[i]); !problem.empty())
      throw std::runtime_error("--policy " + policies[i] + ": " + problem);
  }
  const auto model = load_model(path);
  std::vector<llama_token> tokens = tokenize(model.get(), read(texts));
  if (static_cast<int>(tokens.size()) > most) tokens.resize(static_cast<std::size_t>(most));
  const int count = static_cast<int>(tokens.size());
  if (count > llama_model_n_ctx_train(model.get()))
    std::fprintf(stderr, "llama_cpp: the model was made for %d positions only\n", llama_model_n_ctx_train(model.get()));
  if (scored == 0) scored = count - options.cells;
  if (scored < 1)
    throw std::runtime_error("the text's " + std::to_string(count) +
                             " tokens fit into the cells; take "
                             "a longer text, fewer --cells, or say how many are --scored");

  int shown = -1;
  const bool terminal = isatty(STDERR_FILENO) != 0;
  const auto runs = compare(model.get(), tokens, scored, each, [&](int done, const std::vector<hosted_run>& so_far) {
    if (!terminal && 10 * done / count == shown) return;
    shown = 10 * done / count;
    double seconds = 0;
    for (const hosted_run& run : so_far) seconds += run.seconds;
    std::fprintf(stderr, "%s%d of %d tokens, %.0f s%s", terminal ? "\r" : "", done, count, seconds,
                 terminal && done + 1 < count ? "" : "\n");
  });
  std::printf("%d tokens in %d cells, the last %d scored; %s, at most %d tokens stay when %d more come\n", count,
              options.cells, scored, one_of_all ? "the union of what heads want" : "a vote of the heads",
              static_cast<int>(options.budget.of(options.cells)), options.piece);
  print(runs, count);
  if (!json.empty()) save(json, runs, count, scored);
  return std::all_of(runs.begin(), runs.end(), [](const hosted_run& run) { return run.problem.empty(); }) ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "llama_cpp: %s\n", error.what());
  return 2;
}
