// SPDX-License-Identifier: MIT
// The functions of functions.hpp, with bytes that libFuzzer chooses. `./dev fuzz` builds and runs it.
#include "functions.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  properties::run_functions(data, size);  // an exception ends the run and leaves the bytes in a file
  return 0;
}
