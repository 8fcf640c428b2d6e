// SPDX-License-Identifier: MIT
#include "measure.hpp"

#include <algorithm>
#include <memory>
#include <numeric>
#include <optional>

#include "evictors.hpp"

namespace {

constexpr int most_rows = 512;  // of a batch; beyond, weights are read seldom enough, and caches take memory

kvevict::amount amount_of(const std::string& text) {
  kvevict::amount budget;
  if (!kvevict::parse_amount(text, budget))
    throw std::runtime_error("'" + text + "' is neither a number of slots nor a share such as 25%");
  return budget;
}

std::unique_ptr<kv_memory> new_cache(const llama_config& c, int capacity) {
  return std::make_unique<kv_memory>(c.layers, c.kv_heads, c.dims, capacity);
}

double slots_per_head(const kv_memory& cache, const llama_config& c) {
  return static_cast<double>(cache.slots()) / (c.layers * c.kv_heads);
}

full_predictions predict(const llama& model, const sample& of, prompt& at) {
  const std::vector<int> fed(of.follow.begin(), of.follow.end() - 1);
  const std::vector<float> logits = model.forward(fed, at.tokens(), at.cache(), of.scored);
  for (int l = 0; l < model.config().layers; ++l)  // what was fed is forgotten again
    std::fill_n(at.cache().lengths(l), model.config().kv_heads, at.tokens());
  return {logits, {of.follow.end() - of.scored, of.follow.end()}};
}

}  // namespace

measured_sample::measured_sample(const llama& model, const sample& of)
    : model_(model),
      of_(of),
      prompt_(model, of.context, static_cast<int>(of.follow.size())),
      policies_(prompt_),
      full_(predict(model, of, prompt_)) {}

run_result measured_sample::full() const {
  return {static_cast<double>(prompt_.tokens()), full_.compare_with_itself(), ""};
}

void measured_sample::after_prompt(const std::vector<policy_run>& runs,
                                   const std::function<void(const policy_run&, const run_result&)>& done) {
  const llama_config& c = model_.config();
  const auto fed_tokens = static_cast<int>(fed().size());
  const auto together = static_cast<std::size_t>(std::max(1, most_rows / fed_tokens));
  for (std::size_t first = 0; first < runs.size(); first += together) {
    const std::size_t count = std::min(together, runs.size() - first);
    std::vector<run_result> results(count);
    std::vector<std::unique_ptr<kv_memory>> caches;
    std::vector<new_tokens> batch;
    for (std::size_t i = 0; i < count; ++i) try {
        kept_slots kept = policies_.keep(runs[first + i].spec, amount_of(runs[first + i].budget));
        kvevict::offset_t longest = 0;
        for (std::size_t r = 1; r < kept.offsets.size(); ++r)
          longest = std::max(longest, kept.offsets[r] - kept.offsets[r - 1]);
        caches.push_back(new_cache(c, static_cast<int>(longest) + fed_tokens));
        gather_kept(prompt_, kept, *caches.back());
        results[i].slots = slots_per_head(*caches.back(), c);
        batch.push_back({fed(), prompt_.tokens(), caches.back().get(), of_.scored});
      } catch (const std::runtime_error& error) {
        results[i].problem = error.what();
      }
    const std::vector<float> logits = model_.forward(batch);
    const float* of_run = logits.data();
    for (std::size_t i = 0; i < count; ++i) {
      if (results[i].problem.empty()) {
        results[i].quality = full_.compare(of_run);
        of_run += std::int64_t{of_.scored} * c.vocabulary;
      }
      done(runs[first + i], results[i]);
    }
  }
}

void measured_sample::along_decode(const std::vector<policy_run>& runs, int slack,
                                   const std::function<void(const policy_run&, const run_result&)>& done) {
  const llama_config& c = model_.config();
  constexpr std::size_t together = 8;
  const auto fed_tokens = static_cast<int>(fed().size());
  for (std::size_t first = 0; first < runs.size(); first += together) {
    const std::size_t count = std::min(together, runs.size() - first);
    std::vector<run_result> results(count);
    std::vector<std::unique_ptr<kv_memory>> caches;
    std::vector<std::unique_ptr<evictor>> evictors;
    std::vector<std::vector<float>> logits;
    std::vector<std::size_t> run_of;
    for (std::size_t i = 0; i < count; ++i) try {
        auto cache = new_cache(c, prompt_.tokens() + fed_tokens);
        cache->copy(prompt_.cache());
        auto policy =
            make_study_evictor(runs[first + i].spec, amount_of(runs[first + i].budget), c, *cache, prompt_.tokens());
        for (int l = 0; l < c.layers; ++l) policy->after_attention(prompt_.rows(l), 0);
        caches.push_back(std::move(cache));
        evictors.push_back(std::move(policy));
        run_of.push_back(i);
      } catch (const std::runtime_error& error) {
        results[i].problem = error.what();
      }
    logits.resize(run_of.size());
    for (int t = 0; t < fed_tokens && !run_of.empty(); ++t) {
      const int scored = t >= fed_tokens - of_.scored ? 1 : 0;
      std::vector<new_tokens> batch;
      for (const auto& cache : caches)
        batch.push_back({fed().subspan(static_cast<std::size_t>(t), 1), prompt_.tokens() + t, cache.get(), scored});
      const std::vector<float> step = model_.forward(batch, [&](const layer_rows& rows) {
        evictors[static_cast<std::size_t>(rows.sequence)]->after_attention(rows, slack);
      });
      for (std::size_t b = 0; b < logits.size() && scored != 0; ++b) {
        const auto from = step.begin() + static_cast<std::ptrdiff_t>(b) * c.vocabulary;
        logits[b].insert(logits[b].end(), from, from + c.vocabulary);
      }
    }
    for (std::size_t b = 0; b < run_of.size(); ++b) {
      results[run_of[b]].slots = slots_per_head(*caches[b], c);
      results[run_of[b]].quality = full_.compare(logits[b].data());
    }
    for (std::size_t i = 0; i < count; ++i) done(runs[first + i], results[i]);
  }
}
