// SPDX-License-Identifier: MIT
// The lives of properties.hpp, with bytes that libFuzzer chooses. `./dev fuzz` builds and runs it.
#include <cstdio>
#include <cstdlib>

#include "properties.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const bool at_exit = [] {
    std::atexit(
        [] { std::fprintf(stderr, "rows selected: %llu\n", static_cast<unsigned long long>(properties::selections)); });
    return true;
  }();
  static_cast<void>(at_exit);
  properties::run_life(data, size);  // an exception ends the run and leaves the bytes in a file
  return 0;
}
