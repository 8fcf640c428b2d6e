// SPDX-License-Identifier: MIT
#include "report.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <numeric>
#include <stdexcept>

namespace {

/// What a row of the table says, over all layers of a run.
struct totals {
  double retained = 0, kept = 0, mass = 0, error = 0, distance = 0, bound = 0;
  double score = 0, select = 0, compact = 0, copy = 0, decode = 0, freed = 0;
  agreement agrees{};
};

totals total(const comparison& c, const policy_run& run) {
  totals t;
  for (const layer_run& layer : run.layers) {
    for (const auto& head : layer.retained) t.retained += static_cast<double>(head.size());
    t.mass += layer.mass;
    t.error += layer.error;
    t.distance += layer.distance;
    t.bound += layer.bound;
    t.score += layer.score_seconds;
    t.select += layer.select_seconds;
    t.compact += layer.compact_seconds;
    t.copy += layer.copy_seconds;
    t.decode += layer.decode_seconds;
    t.agrees.slots += layer.agrees.slots;
    t.agrees.differ += layer.agrees.differ;
    t.agrees.margin = std::max(t.agrees.margin, layer.agrees.margin);
    t.agrees.score_error = std::max(t.agrees.score_error, layer.agrees.score_error);
  }
  const double slots = static_cast<double>(c.length + (c.every > 0 ? c.future : 0)) * c.kv_heads,
               layers = static_cast<double>(run.layers.size());
  t.kept = t.retained / slots;
  t.freed = (slots - t.retained) * c.entry_bytes;
  for (double* mean : {&t.mass, &t.error, &t.distance, &t.bound}) *mean /= layers;
  return t;
}

nlohmann::json run_json(const comparison& c, const policy_run& run) {
  nlohmann::json out{{"policy", run.spec},
                     {"budget", {{"slots", run.budget.slots}, {"percent", run.budget.millionths / 1e4}}}};
  if (!run.problem.empty()) {
    out["problem"] = run.problem;
    return out;
  }
  const totals t = total(c, run);
  out["kept"] = t.kept;
  out["bytes_freed"] = t.freed;
  out["seconds"] = {{"score", t.score}, {"select", t.select}, {"compact", t.compact}, {"copy", t.copy}};
  if (c.every > 0) out["seconds"]["decode_step"] = t.decode / c.future;
  if (c.on_device)
    out["agreement"] = {{"slots", t.agrees.slots},
                        {"differ", t.agrees.differ},
                        {"margin", t.agrees.margin},
                        {"score_error", t.agrees.score_error}};
  if (c.future > 0) {
    out["attention_mass_kept"] = t.mass;
    out["output_error"] = t.error;
    out["output_distance"] = t.distance;
    out["output_bound"] = t.bound;
  }
  for (std::size_t i = 0; i < run.layers.size(); ++i) {
    nlohmann::json layer{{"layer", c.layers[i]}};
    for (const auto& head : run.layers[i].retained) layer["retained_slots"].push_back(head.size());
    if (c.future > 0) {
      layer["attention_mass_kept"] = run.layers[i].mass;
      layer["output_error"] = run.layers[i].error;
      layer["output_distance"] = run.layers[i].distance;
      layer["output_bound"] = run.layers[i].bound;
    }
    // Slots of all heads: those left by each eviction; every token since adds one per head.
    for (const eviction& e : run.layers[i].evictions) {
      std::size_t left = 0;
      for (const auto& head : e.retained) left += head.size();
      layer["evictions"].push_back({{"after", e.after}, {"slots_left", left}});
    }
    out["layers"].push_back(layer);
  }
  return out;
}

/// How the device and the CPU agree, a line per policy.
void print_agreement(const comparison& c, int width) {
  std::printf("\nthe device and the CPU: by the same scores the same slots, and the bytes of these slots\n");
  for (const policy_run& run : c.runs) {
    if (!run.problem.empty()) continue;
    const agreement a = total(c, run).agrees;
    std::printf("%-*s ", width, run.spec.c_str());
    if (a.differ == 0)
      std::printf("all %zu slots are equal", a.slots);
    else
      std::printf("%zu of %zu slots differ, at most %.1e from the threshold", a.differ, a.slots, a.margin);
    std::printf("; scores within %.1e\n", a.score_error);
  }
  std::printf("scores and distances are in units of a row's largest score\n");
}

std::string quoted(const std::filesystem::path& path) {
  std::string out = "'";
  for (const char ch : path.string()) out += ch == '\'' ? std::string("'\\''") : std::string(1, ch);
  return out + "'";
}

}  // namespace

void print_table(const comparison& c) {
  std::size_t width = 6;
  for (const policy_run& run : c.runs) width = std::max(width, run.spec.size());
  const int w = static_cast<int>(width);
  std::printf("%-*s %6s %8s %8s %9s %9s %9s %9s %10s %9s%s\n", w, "policy", "kept", "mass", "error", "L1", "bound",
              "score ms", "select ms", "compact ms", "freed MiB", c.every > 0 ? "   step us" : "");
  for (const policy_run& run : c.runs) {
    if (!run.problem.empty()) {
      std::printf("%-*s   not run: %s\n", w, run.spec.c_str(), run.problem.c_str());
      continue;
    }
    const totals t = total(c, run);
    std::printf("%-*s %5.1f%% ", w, run.spec.c_str(), 100 * t.kept);
    if (c.future > 0)
      std::printf("%7.2f%% %8.4f %9.3f %9.3f ", 100 * t.mass, t.error, t.distance, t.bound);
    else
      std::printf("%8s %8s %9s %9s ", "-", "-", "-", "-");
    std::printf("%9.2f %9.3f %10.3f %9.2f", 1e3 * t.score, 1e3 * t.select, 1e3 * t.compact, t.freed / (1 << 20));
    if (c.every > 0) std::printf(" %9.1f", 1e6 * t.decode / c.future);
    std::printf("\n");
  }
  std::printf("\n%zu layer%s of %s, %d slots per head before eviction%s\n", c.layers.size(),
              c.layers.size() == 1 ? "" : "s", c.file.c_str(), c.length,
              c.future > 0 ? "" : "; pass --future M for mass, error and bound");
  if (c.future > 0)
    std::printf(
        "mass   share of the attention of the %d future tokens that falls on what is kept\n"
        "error  relative error of their attention output; L1 its mean distance; bound what Ada-KV's theorem 3.1 "
        "allows\n",
        c.future);
  if (c.every > 0)
    std::printf(
        "decode the %d tokens come one by one, rows are evicted at %d slots above their budget; kept and freed count "
        "all "
        "tokens,\n       step is appending, observing and evicting one token, over all layers\n",
        c.future, c.every);
  const auto ran = std::ranges::find_if(c.runs, [](const policy_run& run) { return run.problem.empty(); });
  if (ran != c.runs.end())
    std::printf("times  milliseconds over all layers; a plain copy of the same keys and values takes %.3f ms\n",
                1e3 * total(c, *ran).copy);
  if (c.on_device) print_agreement(c, w);
}

nlohmann::json selection_json(const comparison& c) {
  nlohmann::json out = nlohmann::json::object();
  for (const policy_run& run : c.runs) {
    if (!run.problem.empty()) continue;
    for (std::size_t i = 0; i < run.layers.size(); ++i)
      out[run.spec][std::to_string(c.layers[i])] = run.layers[i].retained;
  }
  return out;
}

nlohmann::json results_json(const comparison& c) {
  nlohmann::json out{{"file", c.file},
                     {"layers", c.layers},
                     {"future", c.future},
                     {"decode", c.every},
                     {"backend", c.on_device ? "cuda" : "cpu"},
                     {"length", c.length},
                     {"kv_heads", c.kv_heads},
                     {"entry_bytes", c.entry_bytes}};
  out["policies"] = out["sweep"] = nlohmann::json::array();
  for (const policy_run& run : c.runs) out["policies"].push_back(run_json(c, run));
  for (const policy_run& run : c.sweep) out["sweep"].push_back(run_json(c, run));
  return out;
}

void write_json(const nlohmann::json& json, const std::filesystem::path& path) {
  std::ofstream file(path);
  file << json.dump() << '\n';
  if (!file.flush()) throw std::runtime_error(path.string() + ": cannot be written");
}

void draw_pictures(const comparison& c, const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  write_json({{"results", results_json(c)}, {"selection", selection_json(c)}}, folder / "comparison.json");
  // Debian's own interpreter first: another one in the path need not see Debian's matplotlib.
  for (const char* python : {"/usr/bin/python3", "python3"}) {
    if (std::system((std::string(python) + " -c 'import matplotlib' >/dev/null 2>&1").c_str()) != 0) continue;
    const std::string command = std::string(python) + " " + quoted(KVEVICT_PICTURES_SCRIPT) + " " + quoted(folder);
    if (std::system(command.c_str()) != 0) throw std::runtime_error("drawing failed: " + command);
    return;
  }
  throw std::runtime_error(
      "pictures need python3 with matplotlib (Debian: apt-get install python3-matplotlib); the "
      "figures are in " +
      (folder / "comparison.json").string());
}
