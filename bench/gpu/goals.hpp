// SPDX-License-Identifier: MIT
#pragma once

#include <string_view>
#include <vector>

#include "measured.hpp"

/// What the library wants to reach on an H200 with the model of measured.hpp; the table says whether it does.
namespace measured {

enum class metric { seconds, share_of_copy, flops_per_second };

struct goal {
  std::string_view step;
  index_t keys, layers;
  metric what;
  double value;
};

[[nodiscard]] inline std::vector<goal> goals() {
  return {
      {"window scores: lse, values", 32768, 32, metric::seconds, 1.12e-3},
      {"window scores: lse, values", 32768, 32, metric::share_of_copy, 0.90},
      {"window scores: lse, cached norms", 32768, 32, metric::seconds, 0.58e-3},
      {"selection", 32768, 32, metric::seconds, 20e-6},
      {"joint budgets + selection", 32768, 32, metric::seconds, 20e-6},
      {"compaction: gather", 32768, 32, metric::share_of_copy, 0.85},
      {"compaction: in place", 32768, 32, metric::share_of_copy, 0.85},
      {"compaction: swap-fill", 32768, 32, metric::share_of_copy, 0.85},
      {"all: lse, values", 32768, 32, metric::seconds, 1.3e-3},
      {"decode step: H2O, attention", kept, 32, metric::seconds, 1e-6},
      {"accumulated attention: lse", 32768, 32, metric::flops_per_second, 600e12},
  };
}

}  // namespace measured
