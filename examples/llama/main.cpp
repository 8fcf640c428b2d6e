// SPDX-License-Identifier: MIT
// Continues a prompt of token ids, with the full cache and with each policy. One line of JSON per token and per run, so
// that run.py (./dev run) can show text as it comes.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <iostream>

#include "generate.hpp"

namespace {

void print(const nlohmann::json& line) { std::cout << line.dump() << std::endl; }

/// False where the policy cannot work on this prompt, for instance because its budget is too small; others may.
bool continue_prompt(const llama& model, const generation_task& task, const std::string& name) try {
  const generation g = generate(model, task, [&](int token) { print({{"run", name}, {"token", token}}); });
  print({{"run", name},
         {"tokens", g.tokens},
         {"prompt_tokens", task.prompt.size()},
         {"prefill_seconds", g.prefill_seconds},
         {"decode_seconds", g.decode_seconds},
         {"evict_seconds", g.evict_seconds},
         {"peak_cache_bytes", g.peak_bytes},
         {"held_cache_bytes", g.held_bytes},
         {"state_bytes", g.state_bytes}});
  return true;
} catch (const std::runtime_error& error) {
  print({{"run", name}, {"error", error.what()}});
  return false;
}

}  // namespace

int main(int argc, char** argv) try {
  CLI::App app{"Continues a prompt with the full cache and with eviction policies."};
  std::string folder, tokens, budget = "25%";
  std::vector<std::string> policies;
  generation_task task;
  app.add_option("--model", folder, "folder with config.json and model.safetensors; ./dev model makes one")->required();
  app.add_option("--tokens", tokens, "file with the prompt, a JSON list of token ids")->required();
  app.add_option("--policy", policies, "a spec, several times: snapkv, ada_ahakv:window=16, ..");
  app.add_option("--budget", budget, "slots per head, or a share of the prompt");
  app.add_option("--count", task.tokens, "tokens of the continuation, at most");
  app.add_option("--end", task.end_token, "the token that ends it");
  app.add_option("--temperature", task.temperature, "0: the most probable token");
  app.add_option("--seed", task.seed, "of the draws where the temperature is not 0");
  app.add_option("--chunk", task.chunk, "tokens of the prompt that run at once");
  app.add_flag("--evict-chunks", task.evict_chunks, "evict after every chunk of the prompt, not only at its end");
  app.add_option("--every", task.every, "while decoding, evict when rows hold so many slots above the budget");
  CLI11_PARSE(app, argc, argv);

  if (!kvevict::parse_amount(budget, task.budget))
    throw std::runtime_error("--budget: '" + budget + "' is neither a number of slots nor a share such as 25%");
  for (const std::string& spec : policies)
    if (const std::string problem = check_policy(spec); !problem.empty())
      throw std::runtime_error("--policy " + spec + ": " + problem);
  std::ifstream file(tokens);
  const nlohmann::json prompt = nlohmann::json::parse(file, nullptr, false);
  if (!prompt.is_array() ||
      !std::all_of(prompt.begin(), prompt.end(), [](const auto& t) { return t.is_number_integer(); }))
    throw std::runtime_error(tokens + ": not a JSON list of token ids");
  task.prompt = prompt.get<std::vector<int>>();

  const llama model(folder);
  bool all = continue_prompt(model, task, "full cache");
  for (const std::string& spec : policies) {
    task.policy = spec;
    all = continue_prompt(model, task, spec) && all;
  }
  return all ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "llama: %s\n", error.what());
  return 2;
}
