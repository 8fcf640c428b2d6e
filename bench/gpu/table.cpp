// SPDX-License-Identifier: MIT
#include "table.hpp"

#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

#include "goals.hpp"

namespace measured {

namespace {

template <class... T>
std::string text(const char* format, T... values) {
  char line[256];
  std::snprintf(line, sizeof line, format, values...);
  return line;
}

double share_of_copy(const row& r, const ceilings& limits) {
  return r.minimum_bytes / r.time.median_seconds / limits.copy_bytes_per_second;
}
double flops_per_second(const row& r) { return r.flops / r.time.median_seconds; }

struct verdict {
  goal wanted;
  double measured;
  bool met;
};
std::vector<verdict> verdicts(const row& r, const ceilings& limits) {
  std::vector<verdict> out;
  if (!r.skipped.empty()) return out;
  for (const goal& g : goals()) {
    if (g.step != r.step || g.keys != r.keys || g.layers != r.layers) continue;
    const double is = g.what == metric::seconds         ? r.time.median_seconds
                      : g.what == metric::share_of_copy ? share_of_copy(r, limits)
                                                        : flops_per_second(r);
    out.push_back({g, is, g.what == metric::seconds ? is <= g.value : is >= g.value});
  }
  return out;
}
std::string sentence(const verdict& v) {
  const char* const met = v.met ? "met" : "not met";
  switch (v.wanted.what) {
    case metric::seconds:
      return text("<= %.0f us: %.1f, %s", 1e6 * v.wanted.value, 1e6 * v.measured, met);
    case metric::share_of_copy:
      return text(">= %.0f %% of copy: %.1f, %s", 100 * v.wanted.value, 100 * v.measured, met);
    default:
      return text(">= %.0f TFLOP/s: %.0f, %s", v.wanted.value / 1e12, v.measured / 1e12, met);
  }
}
const char* name_of(metric m) {
  return m == metric::seconds ? "seconds" : m == metric::share_of_copy ? "share_of_copy" : "flops_per_second";
}

std::string head(const run_notes& notes, const ceilings& limits) {
  std::string out = "# " + limits.device + ", " + notes.date + "\n\n`" + notes.command + "`; " + notes.state + ".\n\n";
  out += text("CUDA of the driver %d.%d, runtime %d.%d; %d multiprocessors, at most %.0f MHz; ", limits.driver / 1000,
              limits.driver % 1000 / 10, limits.runtime / 1000, limits.runtime % 1000 / 10, limits.multiprocessors,
              limits.max_clock_hertz / 1e6);
  out += text("%.0f MiB of second-level cache, %.1f GiB of memory.\n\n", limits.l2_bytes / (1 << 20),
              limits.memory_bytes / (1 << 30));
  out += "| ceiling of this run | |\n|---|---|\n";
  out += text("| copy, read + written | %.2f TB/s |\n", limits.copy_bytes_per_second / 1e12);
  out += text("| reads of a second-level cache | %.2f TB/s |\n", limits.l2_read_bytes_per_second / 1e12);
  out += text("| mma.sync bf16, operands in registers | %.0f TFLOP/s |\n", limits.mma_flops / 1e12);
  out += limits.gemm_flops > 0 ? text("| cuBLAS bf16, 8192^3 | %.0f TFLOP/s |\n", limits.gemm_flops / 1e12)
                               : std::string("| cuBLAS bf16, 8192^3 | no cuBLAS to link |\n");
  out += text("| ex2.approx | %.2f T/s |\n", limits.exponentials_per_second / 1e12);
  out += text("| an empty graph of one kernel | %.2f us |\n\n", limits.empty_graph_seconds * 1e6);
  return out;
}

}  // namespace

std::string line_of(const row& r, const ceilings& limits) {
  std::string out = text("| %s | %d | %d |", r.step.c_str(), r.keys, r.layers);
  if (!r.skipped.empty()) return out + " skipped: " + r.skipped + " | | | | | | | |\n";
  out += text(" %.1f | %d |", 1e6 * r.time.median_seconds, r.time.runs);
  out += r.minimum_bytes > 0 ? text(" %.1f |", 100 * share_of_copy(r, limits)) : std::string(" |");
  out += r.flops > 0
             ? text(" %.0f | %.0f |", flops_per_second(r) / 1e12, 100 * flops_per_second(r) / limits.tensor_flops())
             : std::string(" | |");
  out += text(" %d | %.2f |", r.time.launches, static_cast<double>(r.time.workspace_bytes) / (1 << 20));
  std::string goals_of_row;
  for (const verdict& v : verdicts(r, limits)) goals_of_row += (goals_of_row.empty() ? " " : "; ") + sentence(v);
  return out + goals_of_row + " |\n";
}

std::string write_tables(const std::string& folder, const run_notes& notes, const ceilings& limits,
                         const std::vector<row>& rows) {
  std::string markdown = head(notes, limits);
  markdown +=
      "| step | keys | layers | us (median) | runs | % of copy on minimum bytes | TFLOP/s | % of the tensor cores | "
      "launches | workspace, MiB | goal on an H200 |\n|---|---|---|---|---|---|---|---|---|---|---|\n";
  nlohmann::json steps = nlohmann::json::array();
  for (const row& r : rows) {
    markdown += line_of(r, limits);
    nlohmann::json step{{"step", r.step}, {"keys", r.keys}, {"layers", r.layers}};
    if (r.skipped.empty()) {
      step.update({{"seconds", r.time.median_seconds},
                   {"runs", r.time.runs},
                   {"launches", r.time.launches},
                   {"workspace_bytes", r.time.workspace_bytes},
                   {"minimum_bytes", r.minimum_bytes},
                   {"flops", r.flops}});
      for (const verdict& v : verdicts(r, limits))
        step["goals"].push_back(
            {{"metric", name_of(v.wanted.what)}, {"goal", v.wanted.value}, {"measured", v.measured}, {"met", v.met}});
    } else {
      step["skipped"] = r.skipped;
    }
    steps.push_back(step);
  }
  markdown += "\n";
  for (const std::string& note : notes.also) markdown += "- " + note + "\n";
  const nlohmann::json json{{"device", limits.device},
                            {"date", notes.date},
                            {"command", notes.command},
                            {"state", notes.state},
                            {"driver", limits.driver},
                            {"runtime", limits.runtime},
                            {"ceilings",
                             {{"copy_bytes_per_second", limits.copy_bytes_per_second},
                              {"l2_read_bytes_per_second", limits.l2_read_bytes_per_second},
                              {"mma_flops", limits.mma_flops},
                              {"gemm_flops", limits.gemm_flops},
                              {"exponentials_per_second", limits.exponentials_per_second},
                              {"empty_graph_seconds", limits.empty_graph_seconds}}},
                            {"steps", steps},
                            {"notes", notes.also}};
  const std::string paths[] = {folder + "/gpu.md", folder + "/gpu.json"};
  std::ofstream tables[] = {std::ofstream(paths[0]), std::ofstream(paths[1])};
  tables[0] << markdown << std::flush;
  tables[1] << json.dump(2) << '\n' << std::flush;
  for (int i = 0; i < 2; ++i)
    if (!tables[i]) return paths[i] + " cannot be written";
  return "";
}

}  // namespace measured
