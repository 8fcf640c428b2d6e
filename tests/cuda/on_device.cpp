// SPDX-License-Identifier: MIT
#define DOCTEST_CONFIG_IMPLEMENT
#include "on_device.hpp"

#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace {

/// In a process of its own, because nothing runs on the device afterwards.
int lose_the_device() {
  const std::string wrong =
      on_device::after_broken_context({{.kv_heads = 2}, {0, 300, 700}, std::vector<float>(700, 0.5F)});
  if (!wrong.empty()) std::fprintf(stderr, "after an error that no context survives: %s\n", wrong.c_str());
  return wrong.empty() ? 0 : 1;
}

}  // namespace

/// Where there is no device, only what needs none is run; what is not, is said by name.
int main(int argc, char** argv) {
  if (argc > 1 && std::string_view(argv[1]) == "--lose-the-device") return lose_the_device();
  setenv("KVEVICT_ON_DEVICE", argv[0], 1);
  if (on_device::found()) {
    std::printf("%s\n", on_device::description().c_str());
    return doctest::Context(argc, argv).run();
  }
  doctest::Context without(argc, argv);
  without.addFilter("test-case", "refused:*");
  if (const int failed = without.run(); failed != 0) return failed;
  std::puts("skipped: no CUDA device; not run:");
  const char* const list[] = {"on_device", "--list-test-cases", "--no-version", "--test-case-exclude=refused:*"};
  doctest::Context(4, list).run();
  return 77;
}
