// SPDX-License-Identifier: MIT
#pragma once

#include <memory>
#include <string>

#include "llama.hpp"

/// Keeps a sequence's cache within the budget of a policy: called after the attention of each layer, so that no more
/// layers than there are threads are ever above it.
class evictor {
 public:
  virtual ~evictor() = default;

  /// Tells the policy about the new tokens of a layer and, once the layer's rows hold together at least `slack` slots
  /// each above their budgets, evicts to the budgets: at once, or beside the next layers, at the latest with the last.
  /// A negative slack: never.
  virtual void after_attention(const layer_rows& rows, int slack) = 0;

  /// Positions of the slots of a row, ascending.
  [[nodiscard]] virtual std::vector<int> positions(int layer, int kv_head) const = 0;
  /// Bytes that the policy remembers beside the cache.
  [[nodiscard]] virtual std::int64_t state_bytes() const = 0;
  /// Seconds spent in the policy, and how many of them it only listened.
  [[nodiscard]] virtual double seconds() const = 0;
  [[nodiscard]] virtual double observe_seconds() const = 0;
};

/// What is wrong with a spec ("ada_snapkv:window=16"), or nothing.
std::string check_policy(const std::string& spec);

/// The evictor of a policy by its spec, for one sequence. A budget that is a share is one of `prompt_length`. Throws
/// std::runtime_error with a sentence.
std::unique_ptr<evictor> make_evictor(const std::string& spec, kvevict::amount budget, const llama_config& model,
                                      kv_memory& cache, int prompt_length);
/// Halves of it, because a template over every policy takes long to compile: without and with head-wise budgets.
std::unique_ptr<evictor> make_plain_evictor(const std::string& spec, kvevict::amount budget, const llama_config& model,
                                            kv_memory& cache, int prompt_length);
std::unique_ptr<evictor> make_adaptive_evictor(const std::string& spec, kvevict::amount budget,
                                               const llama_config& model, kv_memory& cache, int prompt_length);
