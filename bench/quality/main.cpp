// SPDX-License-Identifier: MIT
// Runs samples under policies and budgets and appends what came of each to a file, a JSON object per line; what the
// file already has is not run again. run.py (./dev quality) makes the samples and reads the results.
#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>

#include "measure.hpp"

namespace {

using run_key = std::tuple<std::string, std::string, std::string>;  // sample, policy, budget

/// Lines that start with # are comments.
std::vector<std::string> read_specs(const std::string& path) {
  std::ifstream in(path);
  if (!in) throw std::runtime_error(path + ": cannot be opened for reading");
  std::vector<std::string> specs;
  for (std::string line; std::getline(in, line);) {
    if (line.empty() || line.front() == '#') continue;
    if (const std::string wrong = check_spec(line); !wrong.empty()) throw std::runtime_error(line + ": " + wrong);
    specs.push_back(line);
  }
  if (specs.empty()) throw std::runtime_error(path + ": there are no policies in it");
  return specs;
}

/// What a results file has. A last line that an interrupt cut off is taken away.
std::set<run_key> read_done(const std::filesystem::path& path) {
  std::set<run_key> done;
  std::ifstream in(path);
  std::uintmax_t whole = 0;
  for (std::string line; std::getline(in, line);) {
    const nlohmann::json json = nlohmann::json::parse(line, nullptr, false);
    if (in.eof() || json.is_discarded()) break;
    whole += line.size() + 1;
    const auto text = [&](const char* field) { return json.at(field).get<std::string>(); };
    done.insert(run_key{text("sample"), text("policy"), text("budget")});
  }
  in.close();
  if (std::filesystem::exists(path)) std::filesystem::resize_file(path, whole);
  return done;
}

nlohmann::json line_of(const sample& s, const policy_run& run, const run_result& r) {
  nlohmann::json line{{"sample", s.name}, {"measure", s.measure}, {"policy", run.spec}, {"budget", run.budget}};
  if (!r.problem.empty()) return line["problem"] = r.problem, line;
  line.update({{"slots", r.slots},
               {"positions", s.scored},
               {"kld", r.quality.kld},
               {"log_kld", r.quality.log_kld},
               {"nll", r.quality.nll},
               {"agreement", r.quality.agreement},
               {"accuracy", r.quality.accuracy},
               {"exact", r.quality.exact}});
  return line;
}

}  // namespace

int main(int argc, char** argv) try {
  CLI::App app{"Measures what eviction policies cost in quality."};
  std::string folder, samples_file, policies_file, out_file;
  std::vector<std::string> budgets;
  int slack = -1;
  app.add_option("--model", folder, "folder with config.json and model.safetensors; ./dev model makes one")->required();
  app.add_option("--samples", samples_file, "samples, a JSON object per line (sample.hpp)")->required();
  app.add_option("--policies", policies_file, "specs, one per line")->required();
  app.add_option("--budget", budgets, "slots per head, or a share of the context; several times")->required();
  app.add_option("--out", out_file, "results are appended here, a JSON object per line")->required();
  app.add_option("--decode", slack,
                 "read what follows token by token and evict again at so many slots above the budget");
  CLI11_PARSE(app, argc, argv);

  const std::vector<sample> samples = read_samples(samples_file);
  std::vector<policy_run> runs;
  for (const std::string& spec : read_specs(policies_file))
    for (const std::string& budget : budgets) runs.push_back({spec, budget});
  std::set<run_key> done = read_done(out_file);
  const llama model(folder);
  std::ofstream out(out_file, std::ios::app);
  if (!out) throw std::runtime_error(out_file + ": cannot be opened for writing");

  const policy_run whole{"full", "100%"};
  const std::size_t all = samples.size() * (runs.size() + 1);
  std::size_t finished = 0;
  for (const sample& s : samples) {
    const auto missing = [&](const policy_run& r) { return !done.contains({s.name, r.spec, r.budget}); };
    std::vector<policy_run> todo;
    std::copy_if(runs.begin(), runs.end(), std::back_inserter(todo), missing);
    const auto start = std::chrono::steady_clock::now();
    const auto write = [&](const policy_run& run, const run_result& r) {
      out << line_of(s, run, r).dump() << std::endl;
    };
    if (!todo.empty() || missing(whole)) {
      measured_sample measured(model, s);
      if (missing(whole)) write(whole, measured.full());
      if (slack < 0)
        measured.after_prompt(todo, write);
      else
        measured.along_decode(todo, slack, write);
    }
    finished += runs.size() + 1;
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    std::cout << nlohmann::json{{"sample", s.name},
                                {"runs", todo.size()},
                                {"seconds", took.count()},
                                {"done", finished},
                                {"of", all}}
                     .dump()
              << std::endl;
  }
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "measure_quality: %s\n", error.what());
  return 2;
}
