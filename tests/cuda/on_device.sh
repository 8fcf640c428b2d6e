#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# on_device.sh ROOT BUILD: builds the tests that need a GPU for the one that is here, with nothing but nvcc and g++, and
# runs them, plainly and under each tool of compute-sanitizer; then the benchmark, which leaves BUILD/gpu.md and
# BUILD/gpu.json. Stops at the first that fails.
set -euo pipefail
root=$1 build=$2
headers=(-I"$root/include" -isystem "$root/build/headers/eigen3" -isystem "$root/build/headers"
  -isystem /usr/include/eigen3 -isystem /usr/include/doctest)
nvcc -std=c++20 -O3 -arch=native -I"$root/include" -c "$root/tests/cuda/on_device.cu" -o "$build/kernels.o"
g++ -std=c++20 -O2 "${headers[@]}" -c "$root/tests/cuda/on_device.cpp" -o "$build/tests.o"
nvcc -arch=native "$build/kernels.o" "$build/tests.o" -o "$build/on_device"
"$build/on_device"
for tool in memcheck racecheck synccheck initcheck; do
  echo "compute-sanitizer $tool"
  KVEVICT_RUNS=2 compute-sanitizer --tool "$tool" --error-exitcode 1 "$build/on_device"
done
nvcc -std=c++20 -O3 -arch=native -I"$root/include" -c "$root/bench/gpu/steps.cu" -o "$build/steps.o"
g++ -std=c++20 -O3 -march=native "${headers[@]}" -c "$root/bench/gpu/main.cpp" -o "$build/bench.o"
nvcc -arch=native "$build/steps.o" "$build/bench.o" -o "$build/gpu_bench"
"$build/gpu_bench" "$build"
