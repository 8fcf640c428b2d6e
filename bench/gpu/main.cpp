// SPDX-License-Identifier: MIT
#include <chrono>
#include <cstdio>
#include <ctime>
#include <functional>
#include <regex>

#include "check.hpp"
#include "decoding.hpp"
#include "table.hpp"

/// gpu_bench FOLDER STATE [FILTER]: the ceilings of this device, then each step whose name, keys and layers match the
/// regular expression FILTER, as in 'selection, 32768 keys, 32'. A step's result is compared with the CPU's before it
/// is timed; the first wrong one ends the run. FOLDER/gpu.md and FOLDER/gpu.json say STATE, the state that the machine
/// is in; they are written after every step, so that a run that is cut off leaves what it had, and says so.
using namespace measured;

namespace {

/// The time of a step whose result was right; nothing where it was not.
using outcome = std::optional<timing>;

/// A line of the table that is still to be measured.
struct job {
  row line;
  double device_bytes = 0;  ///< that it needs
  std::function<outcome()> measure;
};

constexpr double bytes_of_entry = 2.0 * dims;  ///< bf16, key or value

/// Minimum bytes of scoring: keys, what is read beside them, queries; and a score per slot.
double scoring_bytes(double per_slot, index_t layers, index_t keys, index_t query_rows) {
  const double rows = double(layers) * kv_heads;
  return rows * (keys * (per_slot + 4) + double(group) * query_rows * bytes_of_entry);
}

void add_windows(std::vector<job>& jobs, index_t layers, index_t keys) {
  using kind = window_kind;
  for (const kind k :
       {kind::keys, kind::keys_lse, kind::norms_lse, kind::values_lse, kind::step_gain_values, kind::float_keys_lse}) {
    const bool is_float = k == kind::float_keys_lse;
    if (is_float && (keys != 32768 || layers != 32)) continue;
    const double per_slot =
        bytes_of_entry * ((with_values(k) ? 2 : 1) + (is_float ? 1 : 0)) + (k == kind::norms_lse ? 4 : 0);
    row line{.step = name_of(k), .keys = keys, .layers = layers};
    line.minimum_bytes = scoring_bytes(per_slot, layers, keys, window);
    line.flops = 2.0 * window * group * kv_heads * double(keys) * dims * layers;
    jobs.push_back({line, window_bytes(k, layers, keys), [=]() -> outcome {
                      return measure_window(k, layers, keys, [k](const scored_row& r) { return right_window(k, r); });
                    }});
  }
}

/// Verified at 4096 keys, where the CPU takes seconds; longer prompts run the same kernels.
void add_accumulated(std::vector<job>& jobs, index_t layers, index_t keys) {
  row line{.step = "accumulated attention: lse", .keys = keys, .layers = layers};
  line.minimum_bytes = scoring_bytes(bytes_of_entry, layers, keys, keys);
  line.flops = double(keys) * keys * dims * group * kv_heads * layers;  // causal: half of all pairs
  constexpr double most_flops = 1e15;                                   // seven replays of more would take minutes
  if (line.flops > most_flops) line.skipped = "more than 10^15 operations per run";
  jobs.push_back({line, accumulated_bytes(layers, keys), [=]() -> outcome {
                    return measure_accumulated(
                        layers, keys, [keys](const scored_row& r) { return keys > 4096 || right_accumulated(r); });
                  }});
}

void add_selection(std::vector<job>& jobs, index_t layers, index_t keys) {
  const double scores = 4.0 * kv_heads * layers * keys;
  for (const bool joint : {false, true}) {
    row line{.step = joint ? "joint budgets + selection" : "selection", .keys = keys, .layers = layers};
    line.minimum_bytes = scores + 4.0 * kv_heads * layers * kept;
    jobs.push_back({line, 2 * scores, [=]() -> outcome {
                      const selection_run run = measure_selection(layers, keys, joint);
                      if (!right_selection(run, layers, keys, joint)) return {};
                      return run.time;
                    }});
  }
  row peer{.step = "peer: CUB segmented sort of the scores", .keys = keys, .layers = layers};
  peer.minimum_bytes = 2 * scores;
  jobs.push_back({peer, 4 * scores, [=]() -> outcome { return measure_segmented_sort(layers, keys); }});
}

void add_compaction(std::vector<job>& jobs, index_t layers, index_t keys) {
  const double moved = 2.0 * 2 * bytes_of_entry * kv_heads * layers * kept;  // keys and values, read and written
  for (const auto kind : {compaction_kind::gather, compaction_kind::in_place, compaction_kind::swap_fill}) {
    row line{.step = name_of(kind), .keys = keys, .layers = layers};
    line.minimum_bytes = moved;
    jobs.push_back(
        {line, compaction_bytes(layers, keys), [=]() -> outcome { return measure_compaction(kind, layers, keys); }});
  }
  row peer{.step = "peer: cudaMemcpyAsync of the kept bytes", .keys = keys, .layers = layers};
  peer.minimum_bytes = moved;
  jobs.push_back({peer, 4 * moved, [=]() -> outcome { return measure_plain_copy(layers); }});
}

void add_whole(std::vector<job>& jobs, index_t layers, index_t keys) {
  for (const bool norms : {false, true}) {
    row line{.step = norms ? "all: lse, cached norms" : "all: lse, values", .keys = keys, .layers = layers};
    line.minimum_bytes = scoring_bytes(norms ? bytes_of_entry + 4 : 2 * bytes_of_entry, layers, keys, window) +
                         2.0 * 2 * bytes_of_entry * kv_heads * layers * kept;
    line.flops = 2.0 * window * group * kv_heads * double(keys) * dims * layers;
    jobs.push_back({line, whole_bytes(norms, layers, keys), [=]() -> outcome {
                      const whole_run run = measure_whole(norms, layers, keys);
                      if (run.time && !right_whole(run.kept, layers, keys)) return {};
                      return run.time;
                    }});
  }
}

/// Of rows that hold `kept` slots, whatever the prompt was; once per number of layers. Bytes: the sums of the policy,
/// read and written, what feeds them, and the token.
void add_decode(std::vector<job>& jobs, index_t layers, index_t keys) {
  if (keys != 4096) return;
  for (const auto kind : {decode_kind::h2o_attention, decode_kind::h2o_queries, decode_kind::window_queries}) {
    row line{.step = name_of(kind), .keys = kept, .layers = layers};
    const double rows = double(layers) * kv_heads, slots = kept + pace / 2.0;
    const double sums = kind == decode_kind::window_queries ? 0 : 2 * 4.0 * group * slots;
    const double fed = kind == decode_kind::h2o_attention ? 4.0 * group * slots
                       : kind == decode_kind::h2o_queries ? bytes_of_entry * (slots + group)
                                                          : bytes_of_entry * group;
    line.minimum_bytes = rows * (sums + fed + 2 * 2 * bytes_of_entry);
    if (kind == decode_kind::h2o_queries) line.flops = 2.0 * rows * group * slots * dims;
    jobs.push_back({line, decode_bytes(layers), [=]() -> outcome { return measure_decode(kind, layers); }});
  }
}

/// Every step at every size. A new step is one function more.
std::vector<job> all_jobs() {
  std::vector<job> jobs;
  for (const auto add : {add_windows, add_accumulated, add_selection, add_compaction, add_whole, add_decode})
    for (const index_t layers : {1, 32})
      for (const index_t keys : {4096, 32768, 131072}) add(jobs, layers, keys);
  return jobs;
}

std::string name_of(const row& r) {
  return r.step + ", " + std::to_string(r.keys) + " keys, " + std::to_string(r.layers) + " layers";
}

std::string today() {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  char out[32];
  std::strftime(out, sizeof out, "%Y-%m-%d %H:%M UTC", std::gmtime(&now));
  return out;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fputs("gpu_bench FOLDER STATE [FILTER]\n", stderr);
    return 2;
  }
  run_notes notes{today(), "./dev gpu bench", argv[2], {}};
  const std::string filter = argc > 3 ? argv[3] : "";
  if (!filter.empty()) notes.command += " '" + filter + "'";
  notes.also = {
      "Llama-3-8B: 8 kv_heads, 32 query_heads, 128 dims; bf16 where nothing else is said; a window of 32 rows; 1024 "
      "slots are kept per row. Every result was compared with the CPU's before it was timed; accumulated attention at "
      "4096 keys.",
      "Medians of graph replays on inputs that take turns. Operations are those of one product of queries and keys, "
      "also where they are done twice; bytes are those that must be read and written once.",
      "A log-sum-exp is what attention over independent normal numbers gives, log(visible slots) + 1/2.",
      "A decode step is two launches, append and step; every 64th of them evicts, and the time is a 64th of theirs. "
      "Lengths and positions are checked here; that kept sets are the CPU's is compared by the device tests.",
      "A swap-fill's time is that of a graph that also puts its order back, less that of one which does only that.",
      about_cub() + "."};

  std::vector<job> jobs;
  try {
    const std::regex wanted(filter);
    for (job& j : all_jobs())
      if (std::regex_search(name_of(j.line), wanted)) jobs.push_back(std::move(j));
  } catch (const std::regex_error& e) {
    std::fprintf(stderr, "'%s' is no regular expression: %s\n", filter.c_str(), e.what());
    return 2;
  }
  if (jobs.empty()) {
    std::fprintf(stderr, "no step matches '%s'; a name is like '%s'\n", filter.c_str(),
                 name_of(all_jobs().front().line).c_str());
    return 2;
  }
  std::fputs("ceilings\n", stderr);
  const ceilings limits = measure_ceilings();
  std::vector<row> rows;
  const auto write = [&](const std::string& unfinished) {
    run_notes now = notes;
    if (!unfinished.empty()) now.also.insert(now.also.begin(), "**Not a complete run: " + unfinished + ".**");
    const std::string wrong = write_tables(argv[1], now, limits, rows);
    if (!wrong.empty()) std::fprintf(stderr, "gpu_bench: %s\n", wrong.c_str());
    return wrong.empty();
  };
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    row& line = jobs[i].line;
    const std::string name = name_of(line);
    std::fprintf(stderr, "[%zu/%zu] %s", i + 1, jobs.size(), name.c_str());
    char reason[128];
    if (const double free = free_bytes(); line.skipped.empty() && 1.05 * jobs[i].device_bytes > free) {
      std::snprintf(reason, sizeof reason, "needs %.1f GB, %.1f GB are free", jobs[i].device_bytes / 1e9, free / 1e9);
      line.skipped = reason;
    }
    if (line.skipped.empty()) {
      const outcome result = jobs[i].measure();
      if (!result) {
        std::fprintf(stderr, "\ngpu_bench: wrong result: %s\n", name.c_str());
        write("it ended at a wrong result of " + name);
        return 1;
      }
      line.time = *result;
      std::fprintf(stderr, ": %.1f us\n", 1e6 * line.time.median_seconds);
    } else {
      std::fprintf(stderr, ": skipped: %s\n", line.skipped.c_str());
    }
    rows.push_back(line);
    const bool last = i + 1 == jobs.size();
    if (!write(last ? "" : "step " + std::to_string(i + 1) + " of " + std::to_string(jobs.size()))) return 1;
  }
  for (const row& r : rows) std::fputs(line_of(r, limits).c_str(), stdout);
  return 0;
}
