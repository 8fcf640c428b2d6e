// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <kvevict/policy/spec.hpp>

#include "eviction.hpp"

/// How a prompt is read and a continuation chosen.
struct generation_task {
  std::vector<int> prompt;
  int tokens = 64;            ///< of the continuation, at most
  int end_token = -1;         ///< ends it; negative: nothing does
  float temperature = 0;      ///< 0: the most probable token; else drawn
  std::uint64_t seed = 1;     ///< of the draws
  int chunk = 512;            ///< tokens of the prompt that run at once
  bool evict_chunks = false;  ///< evict after every chunk, not only at the prompt's end
  int every = -1;             ///< while decoding, evict when rows hold so many slots above the budget; negative: never
  std::string policy;         ///< empty: the cache is left alone
  kvevict::amount budget = kvevict::percent(25);
};

struct generation {
  std::vector<int> tokens;
  double prefill_seconds = 0, decode_seconds = 0, evict_seconds = 0;  ///< evictions are part of the other two
  std::int64_t peak_bytes = 0, held_bytes = 0;                        ///< of the cache, as the system counts pages
  std::int64_t state_bytes = 0;                                       ///< what the policy remembers beside it
};

/// Runs a prompt and continues it; `on_token` sees each token as soon as it is chosen.
generation generate(const llama& model, const generation_task& task, const std::function<void(int)>& on_token);
