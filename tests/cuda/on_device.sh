#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# on_device.sh ROOT BUILD: builds the tests that need a GPU for the one that is here, with nothing but nvcc and g++, and
# runs them, plainly and under each tool of compute-sanitizer; then examples/cuda_host, compare --backend cuda on the
# bundled capture, and the benchmark, which leaves BUILD/gpu.md and BUILD/gpu.json. Stops at the first that fails.
set -euo pipefail
root=$1 build=$2
headers=(-I"$root/include" -isystem "$root/build/headers/eigen3" -isystem "$root/build/headers"
  -isystem /usr/include/eigen3 -isystem /usr/include/doctest)
tests=()
for part in on_device on_device_moves; do
  nvcc -std=c++20 -O3 -arch=native -I"$root/include" -c "$root/tests/cuda/$part.cu" -o "$build/$part.cu.o"
  g++ -std=c++20 -O2 "${headers[@]}" -c "$root/tests/cuda/$part.cpp" -o "$build/$part.o"
  tests+=("$build/$part.cu.o" "$build/$part.o")
done
nvcc -arch=native "${tests[@]}" -o "$build/on_device"
"$build/on_device"
for tool in memcheck racecheck synccheck initcheck; do
  echo "compute-sanitizer $tool"
  KVEVICT_RUNS=2 compute-sanitizer --tool "$tool" --error-exitcode 1 "$build/on_device"
done
nvcc -std=c++20 -O3 -arch=native -I"$root/include" "$root/examples/cuda_host/main.cu" -o "$build/cuda_host"
"$build/cuda_host"
echo "compare --backend cuda"
compare=()
for part in capture_file run_plain run_adaptive decode_plain decode_adaptive agreement evaluate report main; do
  g++ -std=c++20 -O2 -march=native -fopenmp "${headers[@]}" -DKVEVICT_PICTURES_SCRIPT='"pictures.py"' \
    -c "$root/examples/compare/$part.cpp" -o "$build/compare_$part.o" &
  compare+=("$build/compare_$part.o")
done
nvcc -std=c++20 -O3 -arch=native -I"$root/include" -c "$root/examples/compare/device.cu" -o "$build/compare_device.o"
for job in $(jobs -p); do wait "$job"; done
nvcc -arch=native -Xcompiler -fopenmp "${compare[@]}" "$build/compare_device.o" -o "$build/compare"
"$build/compare" "$root/examples/capture/smollm2-135m.safetensors" --future 128 --backend cuda \
  --json "$build/compare.json" | tee "$build/compare.txt"
nvcc -std=c++20 -O3 -arch=native -I"$root/include" -c "$root/bench/gpu/steps.cu" -o "$build/steps.o"
g++ -std=c++20 -O3 -march=native "${headers[@]}" -c "$root/bench/gpu/main.cpp" -o "$build/bench.o"
nvcc -arch=native "$build/steps.o" "$build/bench.o" -o "$build/gpu_bench"
"$build/gpu_bench" "$build"
