// SPDX-License-Identifier: MIT
// The lives of properties.hpp and the selections of selections.hpp, with bytes that libFuzzer chooses. `./dev fuzz`
// builds and runs it.
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "properties.hpp"
#include "selections.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const bool at_exit = [] {
    static const auto start = std::chrono::steady_clock::now();
    std::atexit([] {
      const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
      std::fprintf(stderr, "rows selected: %llu, %.0f a second\n",
                   static_cast<unsigned long long>(properties::selections),
                   double(properties::selections) / seconds.count());
    });
    return true;
  }();
  static_cast<void>(at_exit);
  properties::run_selection(data, size);  // an exception ends the run and leaves the bytes in a file
  properties::run_life(data, size);
  return 0;
}
