// SPDX-License-Identifier: MIT
#include "properties.hpp"

#include <doctest/doctest.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "selections.hpp"

namespace {

/// Runs `usual` rounds with bytes that are the same every time, or as many as the environment asks for with bytes that
/// are not; then it says how many rows were selected.
template <class Round>
void run_rounds(const char* variable, long usual, const Round& round) {
  const char* wanted = std::getenv(variable);
  const long rounds = wanted != nullptr ? std::atol(wanted) : usual;
  std::mt19937 generator(wanted != nullptr ? std::random_device{}() : 2026u);
  const std::uint64_t before = properties::selections;
  const auto start = std::chrono::steady_clock::now();
  for (long i = 0; i < rounds; ++i) {
    std::uint8_t bytes[64];
    for (std::uint8_t& b : bytes) b = std::uint8_t(generator());
    CAPTURE(i);
    REQUIRE_NOTHROW(round(bytes, sizeof bytes));
  }
  const std::uint64_t selected = properties::selections - before;
  CHECK(selected > std::uint64_t(rounds));
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  if (wanted != nullptr)
    MESSAGE("rows selected: " << selected << ", " << std::uint64_t(double(selected) / seconds.count()) << " a second");
}

}  // namespace

TEST_CASE("lives of caches, chosen by chance: every property holds at every step") {
  run_rounds("KVEVICT_LIVES", 1500, properties::run_life);
}

TEST_CASE("selections, chosen by chance: every property holds") {
  run_rounds("KVEVICT_SELECTIONS", 20000, properties::run_selection);
}

TEST_CASE("the lives that a fuzzer found worth keeping (tests/reliability/corpus)") {
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(KVEVICT_CORPUS)) {
    std::ifstream file(entry.path(), std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    CAPTURE(entry.path().string());
    const auto* data = reinterpret_cast<const std::uint8_t*>(bytes.data());
    REQUIRE_NOTHROW(properties::run_life(data, bytes.size()));
    REQUIRE_NOTHROW(properties::run_selection(data, bytes.size()));
    ++files;
  }
  CHECK(files >= 10);
}
