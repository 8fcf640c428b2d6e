// SPDX-License-Identifier: MIT
#include <cstdio>
#include <fstream>
#include <kvevict/cpu.hpp>
#include <nlohmann/json.hpp>
#include <string>

#include "steps.hpp"

/// gpu_bench FOLDER: measures the steps on the device, compares every result with the CPU's first, and writes
/// FOLDER/gpu.md and FOLDER/gpu.json. Ends at the first wrong result.
using namespace kvevict;

namespace {

/// Whether the device kept what the CPU keeps.
template <class Policy>
bool right(const Policy& policy, const steps::selection_run& run, index_t layers, index_t keys) {
  const cache_shape shape{.layers = layers, .kv_heads = steps::kv_heads};
  const auto rows = index_t(shape.rows());
  std::vector<offset_t> score_offsets, offsets(std::size_t(rows) + 1);
  for (index_t r = 0; r <= rows; ++r) score_offsets.push_back(offset_t(r) * keys);
  const row_scores scores{shape, {run.scores.data(), score_offsets.data(), rows}};
  std::vector<index_t> slots(run.slots.size());
  std::vector<cache_line> scratch(cache_lines(workspace_bytes(cpu{}, policy, scores)));
  return select(cpu{}, policy, scores, selection{slots, offsets}, workspace_of(scratch)).ok() &&
         offsets == run.offsets && slots == run.slots;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string folder = argc > 1 ? argv[1] : ".";
  const steps::ceilings limits = steps::measure_ceilings();
  std::string table = limits.device + ": copy " + std::to_string(limits.copy_bytes_per_second / 1e12) +
                      " TB/s (read + write), an empty graph " + std::to_string(limits.empty_node_seconds * 1e6) +
                      " us.\n\n| step | keys | layers | us | % of copy on minimum bytes | launches | workspace MiB | "
                      "CUB segmented sort, us |\n|---|---|---|---|---|---|---|---|\n";
  nlohmann::json json{{"device", limits.device},
                      {"copy_bytes_per_second", limits.copy_bytes_per_second},
                      {"empty_graph_seconds", limits.empty_node_seconds},
                      {"steps", nlohmann::json::array()}};
  constexpr index_t keep = 1024;
  for (const index_t layers : {1, 32})
    for (const index_t keys : {4096, 32768, 131072}) {
      const double sort = steps::measure_segmented_sort(layers, keys);
      for (const bool joint : {false, true}) {
        const auto run = steps::measure_selection(layers, keys, keep, joint);
        const snapkv<> each{.budget = slots(keep), .recent = 0};
        const std::string step = joint ? "joint budgets + selection" : "selection";
        if (!(joint ? right(adakv{each}, run, layers, keys) : right(each, run, layers, keys))) {
          std::fprintf(stderr, "%s, %d keys, %d layers: not what the CPU keeps\n", step.c_str(), keys, layers);
          return 1;
        }
        // At least: every score read once, every kept slot written once.
        const double bytes = 4.0 * steps::kv_heads * layers * (double(keys) + keep);
        const double share = 100 * bytes / run.time.median_seconds / limits.copy_bytes_per_second;
        char line[256];
        std::snprintf(line, sizeof line, "| %s | %d | %d | %.1f | %.0f | %d | %.1f | %.1f |\n", step.c_str(), keys,
                      layers, 1e6 * run.time.median_seconds, share, run.time.launches,
                      double(run.time.workspace_bytes) / (1 << 20), 1e6 * sort);
        table += line;
        std::fputs(line, stdout);
        json["steps"].push_back({{"step", step},
                                 {"keys", keys},
                                 {"layers", layers},
                                 {"seconds", run.time.median_seconds},
                                 {"minimum_bytes", bytes},
                                 {"launches", run.time.launches},
                                 {"workspace_bytes", run.time.workspace_bytes},
                                 {"cub_segmented_sort_seconds", sort}});
      }
    }
  std::ofstream(folder + "/gpu.md") << table;
  std::ofstream(folder + "/gpu.json") << json.dump(2) << '\n';
  std::fputs(("\n" + table).c_str(), stdout);
  return 0;
}
