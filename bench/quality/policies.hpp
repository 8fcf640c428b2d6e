// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/policy/spec.hpp>
#include <map>
#include <stdexcept>

#include "prompt.hpp"

/// The slots that a policy keeps of a prompt, row after row ((layer, kv_head) as in the cache), ascending.
struct kept_slots {
  std::vector<kvevict::index_t> slots;
  std::vector<kvevict::offset_t> offsets;  // [rows + 1]

  [[nodiscard]] kvevict::selection selection() {
    return {{slots.data(), offsets.back()}, {offsets.data(), static_cast<kvevict::offset_t>(offsets.size())}};
  }
};

/// Policies at work on one prompt. Scores are computed once for all budget rules over them.
class prompt_policies {
 public:
  explicit prompt_policies(prompt& of) : prompt_(of) {}

  /// Evicts to the budget, once per layer; throws std::runtime_error with a sentence.
  kept_slots keep(const std::string& spec, kvevict::amount budget);
  /// Scores of the policy, row after row: [rows][tokens], higher = keep.
  const std::vector<float>& scores(const std::string& spec, kvevict::amount budget);

 private:
  prompt& prompt_;
  std::map<std::string, std::vector<float>> scores_;  // by the policy without its head-wise budgets
};

/// Throws the sentence of a status that is not ok.
inline void require(const kvevict::status& s) {
  if (!s.ok()) throw std::runtime_error(std::string(s.argument) + ": " + s.sentence);
}

/// What is wrong with a spec, or nothing.
std::string check_spec(const std::string& spec);
/// Copies what is kept into another cache, which must be empty.
void gather_kept(prompt& from, kept_slots& kept, kv_memory& to);
