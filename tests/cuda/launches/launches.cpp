// SPDX-License-Identifier: MIT
#include "launches.hpp"

#include <doctest/doctest.h>

using namespace launches;

namespace {

constexpr device devices[] = {
    {"sm_80", 80, false, 163 * 1024},
    {"sm_90", 90, true, 227 * 1024},
    {"sm_90 with code of sm_80", 80, true, 227 * 1024},
    {"sm_100", 100, true, 227 * 1024},
    {"sm_120", 120, true, 99 * 1024},
    {"sm_120 without clusters", 120, false, 99 * 1024},
};

}  // namespace

TEST_CASE("launches: every entry point asks of a device what it has, on the device of its stream") {
  for (const device& d : devices)
    for (const call& c : all_calls()) {
      CAPTURE(d.name);
      CAPTURE(c.name);
      pretend(d);
      CHECK(c.run() == "");
      CHECK(current() == 0);
      const std::vector<launch> made = taken();
      CHECK(made.size() >= 1);
      if (c.kernels > 0) CHECK(made.size() == std::size_t(c.kernels));
      for (const launch& l : made) {
        CHECK(l.wrong == "");
        CHECK(l.on_device == 1);
      }
    }
}

TEST_CASE("launches: rows that share a budget take a cluster where there are any, and only there") {
  for (const device& d : devices) {
    CAPTURE(d.name);
    int with_clusters = 0;
    for (const call& c : all_calls()) {
      pretend(d);
      CHECK(c.run() == "");
      for (const launch& l : taken()) with_clusters += l.cluster > 1 ? 1 : 0;
    }
    CHECK((with_clusters >= 4) == (d.clusters && d.code >= 90));
  }
}
