// SPDX-License-Identifier: MIT
#pragma once

#include <likelihood.hpp>

#include "hosted.hpp"

/// A text under one policy, beside the same text in llama.cpp's full cache.
struct hosted_run {
  hosting_options options;
  std::string problem{};  ///< why it did not run to the end
  comparison mean{};      ///< over the scored tokens (bench/quality/likelihood.hpp)
  int most_held = 0;      ///< cells in use at any time
  std::size_t bytes = 0;  ///< of keys and values, at the end
  double seconds = 0, policy_seconds = 0;
};

/// Runs the tokens through the full cache and through every run's, piece by piece beside one another, so that nothing
/// but the logits of a piece has to be kept. The last `scored` tokens are scored. The first run returned is the full
/// cache. `progress` hears how many tokens are done, and what the runs are so far.
std::vector<hosted_run> compare(llama_model* model, const std::vector<llama_token>& tokens, int scored,
                                const std::vector<hosting_options>& runs,
                                const std::function<void(int, const std::vector<hosted_run>&)>& progress);
