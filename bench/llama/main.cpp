// SPDX-License-Identifier: MIT
// How fast the engine of examples/llama runs a prompt, how much of that an eviction costs, and what a smaller cache
// saves while it decodes: a Markdown table beside the limits of the same run.
#include <omp.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>

#include "eviction.hpp"
#include "limits.hpp"

namespace {

using tokens = std::vector<int>;

struct options {
  std::string folder = KVEVICT_MODEL, cut = "ada_snapkv";
  int prompt = 2048, context = 8000, rounds = 5, steps = 31;
  std::vector<std::string> policies{"snapkv", "ada_snapkv", "ahakv", "tova", "h2o", "accumulated_attention"};
};

/// Every figure is a median, with what it moved by around it.
struct measured {
  std::vector<double> values;

  void add(double seconds) { values.push_back(seconds); }
  [[nodiscard]] double at(double part) const {
    std::vector<double> sorted = values;
    std::sort(sorted.begin(), sorted.end());
    return sorted[static_cast<std::size_t>(part * static_cast<double>(sorted.size() - 1) + 0.5)];
  }
  [[nodiscard]] double median() const { return at(0.5); }
  /// Half the distance of the quartiles, in per cent of the median.
  [[nodiscard]] double spread() const { return 50 * (at(0.75) - at(0.25)) / median(); }
};

template <class Work>
double seconds_of(const Work& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// The passage of the model's test, over and over: text, so that head-wise budgets differ as they do on text.
tokens text(int count) {
  std::ifstream file(KVEVICT_REFERENCE "/reference.json");
  const auto passage = nlohmann::json::parse(file)["tokens"].get<tokens>();
  tokens all;
  for (int i = 0; i < count; ++i) all.push_back(passage[static_cast<std::size_t>(i) % passage.size()]);
  return all;
}

struct bench {
  options o;
  llama model{o.folder};
  const llama_config& c = model.config();
  const machine_limits& machine = limits(omp_get_max_threads());

  [[nodiscard]] kv_memory empty(int capacity) const { return {c.layers, c.kv_heads, c.dims, capacity}; }

  /// Useful operations of a prompt: two per weight and token (the embedding is a product for the last one only), and
  /// the half of attention that causality leaves.
  [[nodiscard]] double operations(double count) const {
    const double embedding = static_cast<double>(c.vocabulary) * c.hidden;
    const double all_weights = static_cast<double>(model.weight_bytes()) / (model.bf16() ? 2 : 4);
    return 2 * ((all_weights - embedding) * count + embedding) +
           4.0 * c.layers * c.query_heads * c.dims * count * (count + 1) / 2;
  }
  [[nodiscard]] double cache_bytes(const kv_memory& cache) const {
    return 2.0 * sizeof(float) * c.dims * static_cast<double>(cache.slots());
  }

  void say_limits() const {
    std::printf("Limits of this run, %d threads: %.1f GFLOP/s multiply-add, %.1f GB/s read, %.1f GB/s memcpy.\n",
                omp_get_max_threads(), machine.gflops, machine.read_gbs, machine.copy_gbs);
    std::printf("Weights: %s, %.0f MB.\n\n", model.bf16() ? "bf16" : "fp32",
                static_cast<double>(model.weight_bytes()) / 1e6);
  }

  /// Nothing is timed that is wrong: logits of a prompt from which nothing is evicted.
  void verify() const {
    const tokens prompt = text(o.prompt);
    const auto logits = [&](const std::string& policy) {
      kv_memory cache = empty(o.prompt);
      const auto evict = make_evictor(policy, kvevict::percent(100), c, cache, o.prompt);
      return model.forward(prompt, 0, cache, 1, [&](const layer_rows& r) { evict->after_attention(r, 0); });
    };
    kv_memory cache = empty(o.prompt);
    const std::vector<float> full = model.forward(prompt, 0, cache, 1);
    for (const std::string& policy : {o.policies.front(), o.policies.back()})
      if (logits(policy) != full) throw std::runtime_error(policy + ": evicting nothing changes logits; not timed");
  }

  /// Prompts without and with evictions by turns, because a shared machine drifts.
  void prompt_and_evictions() const {
    const tokens prompt = text(o.prompt);
    measured alone;
    struct costs {
      measured all, observe;
    };
    std::vector<costs> of(o.policies.size());
    for (int round = 0; round < o.rounds; ++round) {
      {
        kv_memory cache = empty(o.prompt);
        alone.add(seconds_of([&] { model.forward(prompt, 0, cache, 1); }));
      }
      for (std::size_t i = 0; i < of.size(); ++i) {
        kv_memory cache = empty(o.prompt);
        const auto evict = make_evictor(o.policies[i], kvevict::percent(25), c, cache, o.prompt);
        model.forward(prompt, 0, cache, 1, [&](const layer_rows& r) { evict->after_attention(r, 0); });
        of[i].all.add(evict->seconds());
        of[i].observe.add(evict->observe_seconds());
      }
    }
    const double seconds = alone.median(), gflops = operations(o.prompt) / seconds / 1e9;
    std::printf("| prompt | tokens/s | s | +- %% | GFLOP/s | of peak | goal |\n|---|---|---|---|---|---|---|\n");
    std::printf("| %d tokens at once | %.0f | %.3f | %.1f | %.0f | %.3f | >= 0.4 |\n\n", o.prompt, o.prompt / seconds,
                seconds, alone.spread(), gflops, gflops / machine.gflops);
    std::printf(
        "| eviction of all layers to 25 %% | ms | +- %% | observe, ms | evict and compact, ms | of the prompt |\n");
    std::printf("|---|---|---|---|---|---|\n");
    for (std::size_t i = 0; i < of.size(); ++i) {
      const double all = of[i].all.median(), observe = of[i].observe.median();
      std::printf("| `%s` | %.1f | %.1f | %.1f | %.1f | %.2f %% |\n", o.policies[i].c_str(), 1e3 * all,
                  of[i].all.spread(), 1e3 * observe, 1e3 * (all - observe), 100 * all / seconds);
    }
    std::printf("\n");
  }

  /// Tokens after a long context, with all of it and with a quarter, by turns.
  void decode() const {
    const int last = o.context - 1;
    const tokens context = text(o.context + o.steps);
    kv_memory full = empty(o.context + o.steps), cut = empty(o.context + o.steps);
    const auto evict = make_evictor(o.cut, kvevict::percent(25), c, cut, o.context);
    for (int at = 0; at < last; at += o.prompt) {
      const tokens piece(context.begin() + at, context.begin() + std::min(at + o.prompt, last));
      model.forward(piece, at, cut, 1, [&](const layer_rows& r) { evict->after_attention(r, -1); });
    }
    full.copy(cut);
    const auto step = [&](kv_memory& cache, int position, const llama::after_attention& after) {
      model.forward({context[static_cast<std::size_t>(position)]}, position, cache, 1, after);
    };
    step(full, last, {});
    step(cut, last, [&](const layer_rows& r) { evict->after_attention(r, 0); });
    measured of_full, of_cut;
    for (int i = 0; i < o.steps; ++i) {
      of_full.add(seconds_of([&] { step(full, o.context + i, {}); }));
      of_cut.add(seconds_of([&] { step(cut, o.context + i, {}); }));
    }
    std::printf("| decode at %d tokens | ms | +- %% | tokens/s | MB read per token | GB/s | of read |\n", o.context);
    std::printf("|---|---|---|---|---|---|---|\n");
    const auto bytes = [&](const kv_memory& cache) {
      return static_cast<double>(model.weight_bytes()) + cache_bytes(cache);
    };
    const auto row = [&](const char* name, const measured& of, double read) {
      const double s = of.median();
      std::printf("| %s | %.2f | %.1f | %.1f | %.0f | %.1f | %.2f |\n", name, 1e3 * s, of.spread(), 1 / s, read / 1e6,
                  read / s / 1e9, read / s / 1e9 / machine.read_gbs);
    };
    row("full cache", of_full, bytes(full));
    row(("a quarter (`" + o.cut + "`)").c_str(), of_cut, bytes(cut));
    const double faster = of_full.median() / of_cut.median(), fewer = bytes(full) / bytes(cut);
    std::printf("\nFaster by %.2f, fewer bytes by %.2f: %+.0f %% (goal: within 20 %%).\n", faster, fewer,
                100 * (faster / fewer - 1));
  }
};

}  // namespace

int main(int argc, char** argv) try {
  CLI::App app{"Prompt, evictions and decode of examples/llama, beside the limits of the same run."};
  options o;
  app.add_option("--model", o.folder, "folder with config.json and model.safetensors; ./dev model makes one");
  app.add_option("--policy", o.policies, "specs whose evictions are timed");
  app.add_option("--prompt", o.prompt, "tokens of the prompt");
  app.add_option("--context", o.context, "tokens before the timed steps of decode");
  app.add_option("--cut", o.cut, "the policy that leaves a quarter of them");
  app.add_option("--rounds", o.rounds, "prompts of each kind")->check(CLI::PositiveNumber);
  app.add_option("--steps", o.steps, "tokens decoded with each cache")->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);
  if (!std::filesystem::exists(o.folder + "/config.json"))
    throw std::runtime_error("there is no model in " + o.folder + "; ./dev model fetches one (93 MB)");
  const bench b{o};
  b.say_limits();
  b.verify();
  b.prompt_and_evictions();
  b.decode();
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "bench llama: %s\n", error.what());
  return 1;
}
