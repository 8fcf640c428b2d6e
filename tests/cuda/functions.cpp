// SPDX-License-Identifier: MIT
#include "functions.hpp"

#include <doctest/doctest.h>

#include <cstdlib>

TEST_CASE("functions that kernels and the CPU share, on inputs chosen by chance: every property holds") {
  const char* wanted = std::getenv("KVEVICT_FUNCTIONS");
  const long rounds = wanted != nullptr ? std::atol(wanted) : 4000;
  std::mt19937 generator(wanted != nullptr ? std::random_device{}() : 2026u);
  for (long i = 0; i < rounds; ++i) {
    std::uint8_t bytes[24];
    for (std::uint8_t& b : bytes) b = std::uint8_t(generator());
    CAPTURE(i);
    REQUIRE_NOTHROW(properties::run_functions(bytes, sizeof bytes));
  }
}
