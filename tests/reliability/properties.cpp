// SPDX-License-Identifier: MIT
#include "properties.hpp"

#include <doctest/doctest.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>

TEST_CASE("lives of caches, chosen by chance: every property holds at every step") {
  // KVEVICT_LIVES=N runs more of them, with other bytes, and says how many rows were selected.
  const char* wanted = std::getenv("KVEVICT_LIVES");
  const long lives = wanted != nullptr ? std::atol(wanted) : 1500;
  std::mt19937 generator(wanted != nullptr ? std::random_device{}() : 2026u);
  const auto start = std::chrono::steady_clock::now();
  for (long life = 0; life < lives; ++life) {
    std::uint8_t bytes[64];
    for (std::uint8_t& b : bytes) b = std::uint8_t(generator());
    CAPTURE(life);
    REQUIRE_NOTHROW(properties::run_life(bytes, sizeof bytes));
  }
  CHECK(properties::selections > 10 * std::uint64_t(lives));
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  if (wanted != nullptr)
    MESSAGE("rows selected: " << properties::selections << ", "
                              << std::uint64_t(double(properties::selections) / seconds.count()) << " a second");
}

TEST_CASE("the lives that a fuzzer found worth keeping (tests/reliability/corpus)") {
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(KVEVICT_CORPUS)) {
    std::ifstream file(entry.path(), std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    CAPTURE(entry.path().string());
    REQUIRE_NOTHROW(properties::run_life(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()));
    ++files;
  }
  CHECK(files >= 10);
}
