// SPDX-License-Identifier: MIT
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <kvevict/policy/spec.hpp>

#include "capture_file.hpp"
#include "device.hpp"
#include "report.hpp"

namespace {

/// One line on standard error that is overwritten while there is a terminal to look at it.
class progress {
 public:
  explicit progress(std::size_t steps) : steps_(steps) {}
  ~progress() {
    if (shown_) std::fputs("\r\033[K", stderr);
  }
  progress(const progress&) = delete;
  progress& operator=(const progress&) = delete;

  void step(const std::string& what) {
    ++done_;
    if (isatty(STDERR_FILENO) == 0) return;
    std::fprintf(stderr, "\r\033[K[%zu/%zu] %s", done_, steps_, what.c_str());
    std::fflush(stderr);
    shown_ = true;
  }

 private:
  std::size_t steps_, done_ = 0;
  bool shown_ = false;
};

/// Every policy, and Ada-KV over those that score with a window.
std::vector<std::string> all_policies() {
  std::vector<std::string> specs(std::begin(kvevict::policy_names), std::end(kvevict::policy_names));
  for (const char* adaptive : {"ada_snapkv", "ada_ahakv", "ada_pyramidkv"}) specs.emplace_back(adaptive);
  return specs;
}

std::vector<int> layers_to_run(const capture_file& file, const std::vector<int>& wanted) {
  if (wanted.empty()) return file.layers();
  std::vector<int> chosen = wanted;
  std::sort(chosen.begin(), chosen.end());
  chosen.erase(std::unique(chosen.begin(), chosen.end()), chosen.end());
  for (const int layer : chosen)
    if (std::find(file.layers().begin(), file.layers().end(), layer) == file.layers().end()) {
      std::string there;
      for (const int l : file.layers()) there += (there.empty() ? "" : ", ") + std::to_string(l);
      throw file_error("--layers: the file has no layer " + std::to_string(layer) + "; it has " + there);
    }
  return chosen;
}

}  // namespace

int main(int argc, char** argv) try {
  CLI::App app{"Compares KV-cache eviction policies on attention that a model produced."};
  app.name("compare");
  std::string file, budget_text = "25%", backend = "cpu";
  std::vector<std::string> specs;
  std::vector<int> layer_list;
  int future = 0, every = 0;
  std::string selection_path, json_path, pictures_path;
  app.add_option("FILE", file, "safetensors capture: layers.L.queries, .keys, .values (see examples/capture)")
      ->required();
  app.add_option("--policy", specs, "SPEC = [ada_]name[:option=value,...]; repeat for several; default: all of them")
      ->expected(1)
      ->take_all();
  app.add_option("--budget", budget_text, "slots kept per row, or a share of the prompt such as 25% (default)");
  app.add_option(
         "--layers", layer_list,
         "layers to run, for instance 0,7 (default: all in the file); PyramidKV's budgets go by all in the file")
      ->delimiter(',');
  app.add_option("--future", future, "the last M tokens come after eviction and test it (default 0)");
  auto* decode = app.add_option("--decode", every,
                                "append the future tokens one by one and evict rows that hold W slots above the budget "
                                "(where heads share budgets: "
                                "a layer that holds W per head above their sum)");
  app.add_option("--backend", backend,
                 "cpu (default), or cuda: run on the device as well and say how far the two agree; slots, figures and "
                 "times are then the device's");
  app.add_option(
      "--selection", selection_path,
      "write the retained slots: {SPEC: {LAYER: [[slots of head 0], ...]}}; after --decode, positions; policies that "
      "cannot run are left out");
  app.add_option("--json", json_path, "write the figures of the table");
  app.add_option("--pictures", pictures_path, "draw pictures and index.html into this folder");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }

  const auto refuse = [](const std::string& sentence) {
    std::fprintf(stderr, "compare: %s\n", sentence.c_str());
    return 2;
  };
  kvevict::amount budget;
  if (!kvevict::parse_amount(budget_text, budget) || budget == kvevict::amount{})
    return refuse("--budget: '" + budget_text +
                  "' is neither a number of slots above 0 nor a share up to 100%, such as 25%");
  if (decode->count() > 0 && every < 1)
    return refuse("--decode: " + std::to_string(every) + " slots above the budget; pass at least 1");
  if (every > 0 && future < 1) return refuse("--decode: there is no token to decode; pass --future M");
  if (backend != "cpu" && backend != "cuda") return refuse("--backend: '" + backend + "' is neither cpu nor cuda");
  const bool on_device = backend == "cuda";
  if (on_device && every > 0) return refuse("--decode runs on the CPU only; leave --backend cuda out");
  if (on_device)
    if (const std::string problem = device_problem(); !problem.empty()) return refuse("--backend cuda: " + problem);
  const bool chosen = !specs.empty();
  if (!chosen) specs = all_policies();
  for (const std::string& spec : specs)
    if (const std::string problem = check_spec(spec); !problem.empty())
      return refuse("--policy " + spec + ": " + problem);

  const capture_file captures(file);
  comparison c{.file = file, .layers = layers_to_run(captures, layer_list), .future = future, .every = every};
  c.on_device = on_device;
  for (const std::string& spec : specs) c.runs.push_back({.spec = spec, .budget = budget});
  const bool sweep = !pictures_path.empty() && future > 0;
  if (sweep)
    for (const int p : {5, 10, 20, 35, 50, 70})
      for (const std::string& spec : specs) c.sweep.push_back({.spec = spec, .budget = kvevict::percent(p)});

#pragma omp parallel
  {}  // starts the threads, so that the first policy's time does not hold it

  {
    progress shown(c.layers.size() * (c.runs.size() + c.sweep.size() + 1));
    const auto depth = static_cast<int>(captures.layers().size());
    for (const int layer : c.layers) {
      const layer_capture capture = captures.load(layer);
      if (future < 0 || future >= capture.length)
        return refuse("--future: " + std::to_string(future) + " of " + std::to_string(capture.length) +
                      " tokens leave no prompt; pass 0 to " + std::to_string(capture.length - 1));
      if (future > capture.rows)
        return refuse("--future: the file has only the last " + std::to_string(capture.rows) +
                      " query rows; pass at most that, or capture more (capture.py --rows)");
      c.length = capture.length - future;
      c.kv_heads += capture.kv_heads;
      c.entry_bytes += static_cast<double>(capture.element_bytes) * (capture.dim + capture.value_dim) /
                       static_cast<double>(c.layers.size());
      const auto index = static_cast<int>(std::find(captures.layers().begin(), captures.layers().end(), layer) -
                                          captures.layers().begin());
      std::vector<layer_run*> ran;
      for (auto* group : {&c.runs, &c.sweep})
        for (policy_run& run : *group) {
          shown.step("layer " + std::to_string(layer) + ": " + run.spec);
          run_policy(capture, {future, every, index, depth, on_device}, run);
          if (run.problem.empty()) ran.push_back(&run.layers.back());
        }
      shown.step("layer " + std::to_string(layer) + ": judging by the future");
      if (future > 0) evaluate(capture, future, ran);
    }
  }

  print_table(c);
  if (!selection_path.empty()) write_json(selection_json(c), selection_path);
  if (!json_path.empty()) write_json(results_json(c), json_path);
  if (!pictures_path.empty()) {
    if (!sweep) std::printf("pass --future M for the picture of error against budget\n");
    draw_pictures(c, pictures_path);
    std::printf("pictures: %s\n", (std::filesystem::path(pictures_path) / "index.html").c_str());
  }
  // A policy that cannot run is an error where it was asked for; in the list of all policies the table says so.
  bool failed = false;
  if (chosen)
    for (const policy_run& run : c.runs)
      if (!run.problem.empty()) {
        std::fprintf(stderr, "compare: %s: %s\n", run.spec.c_str(), run.problem.c_str());
        failed = true;
      }
  return failed ? 2 : 0;
} catch (const std::exception& e) {
  std::fprintf(stderr, "compare: %s\n", e.what());
  return 2;
}
