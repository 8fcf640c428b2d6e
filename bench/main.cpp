// SPDX-License-Identifier: MIT
#include <benchmark/benchmark.h>

#include <cstdio>
#include <string>
#include <thread>

#include "limits.hpp"

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  for (const int threads : {1, static_cast<int>(std::thread::hardware_concurrency())}) {
    const machine_limits& m = limits(threads);
    char text[96];
    std::snprintf(text, sizeof text, "%.1f GFLOP/s multiply-add, %.1f GB/s memcpy (read + write)", m.gflops,
                  m.copy_gbs);
    benchmark::AddCustomContext("limits of " + std::to_string(threads) + " thread" + (threads == 1 ? "" : "s"), text);
  }
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
