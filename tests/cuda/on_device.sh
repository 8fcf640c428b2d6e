#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# on_device.sh ROOT BUILD [PART]...: what needs a GPU, on the one that is here, with nothing but CUDA's toolkit and g++
# (headers that the machine lacks lie in ROOT/build/headers):
#
#   tests            the device tests: scores, selections, compactions against the CPU, as graphs, 100 times
#   examples         programs of one .cu file that say themselves whether all is well, and compare --backend cuda
#   sanitize [TOOL]  the least of the tests that runs every kernel, under compute-sanitizer's memcheck, synccheck and
#                    racecheck (the slowest by far), or one of them
#   bench [FILTER]   the benchmark, which leaves BUILD/gpu.md and BUILD/gpu.json; only steps that match FILTER
#
# All of them where none is named. Each step is announced with the time; the first that fails ends the run. Test cases
# run side by side, each in a process of its own. A workspace's contents are others in each run of a test, which finds
# what initcheck would look for.
set -euo pipefail
root=$(cd "$1" && pwd) build=$2
shift 2
(($#)) || set -- tests examples sanitize bench
mkdir -p "$build"

say() { printf '== %02d:%02d %s\n' $((SECONDS / 60)) $((SECONDS % 60)) "$*" >&2; }
ask() { nvidia-smi "--query-gpu=$1" --format=csv,noheader | head -n 1; }
fail() { echo "on_device.sh: $*" >&2 && exit 1; }

command -v nvcc >/dev/null || fail "no nvcc on the path; install the CUDA toolkit, 13.0 or later"
command -v nvidia-smi >/dev/null || fail "no nvidia-smi on the path; is there a GPU, and its driver?"
capability=$(ask compute_cap | tr -d '. ')
[[ $capability =~ ^[0-9]+$ ]] || fail "nvidia-smi names no compute capability; is there a GPU?"
# Hopper's and Blackwell's own instructions are in the targets with an `a`.
((capability >= 90)) && target=${capability}a || target=$capability
flags=(-std=c++20 -O3 "-gencode=arch=compute_$target,code=sm_$target" "-I$root/include")
headers=("-I$root/include" "-I$root/examples/tensor_file" -isystem "$root/build/headers/eigen3" -isystem "$root/build/headers"
  -isystem /usr/include/eigen3)
state=$(ask name,driver_version,clocks.sm,clocks.mem,clocks.max.sm,clocks.max.mem)
say "$state; sm_$target; $(nvcc --version | tail -n 1)"

capture_reader=("$root/examples/compare/capture_file.cpp" "$root/examples/tensor_file/tensor_file.cpp")

# As many jobs run at a time as there are processors: waits for a free one.
free_processor() { while (($(jobs -rp | wc -l) >= $(nproc))); do sleep 0.1; done; }

# compile OBJECT SOURCE [FLAG...]: does nothing where the object is newer than every source.
compile() {
  local object=$1 source=$2
  shift 2
  [[ -f $object && -z $(find "$root/include" "$root/tests" "$root/bench/gpu" "$root/examples" -newer "$object" \
    \( -name '*.?pp' -o -name '*.cu*' \) -print -quit) ]] && return 0
  case $source in
    *.cu) nvcc "${flags[@]}" "$@" -c "$source" -o "$object" ;;
    *) g++ -std=c++20 -march=native -fopenmp "${headers[@]}" "$@" -c "$source" -o "$object" ;;
  esac || { rm -f "$object"; return 1; }
}

# compile_all LIST: lines of arguments for `compile`, as many at a time as there are processors.
compile_all() {
  local line jobs=()
  while read -r line; do
    free_processor
    # shellcheck disable=SC2086
    compile $line &
    jobs+=($!)
  done
  for line in "${jobs[@]}"; do wait "$line" || fail "a file does not compile"; done
}

# links HEADER STATEMENTS [LIBRARY]: whether a program with them builds and runs.
links() {
  printf '#include <%s.h>\nint main() { %s }\n' "$1" "$2" >"$build/links.cu"
  nvcc "$build/links.cu" "-l${3:-$1}" -o "$build/links" >/dev/null 2>&1 && "$build/links" >/dev/null 2>&1
}

build_tests() {
  say "building the tests"
  local source capture=$root/examples/capture/smollm2-135m.safetensors
  {
    for source in "$root"/tests/cuda/on_device*.cu; do echo "$build/$(basename "$source").o $source"; done
    for source in "$root"/tests/cuda/on_device*.cpp "${capture_reader[@]}"; do
      echo "$build/$(basename "$source").o $source -O2 -DKVEVICT_CAPTURE=\"$capture\""
    done
  } | compile_all
  nvcc "-arch=sm_$target" -Xcompiler -fopenmp "$build"/on_device*.o "$build/capture_file.cpp.o" "$build/tensor_file.cpp.o" \
    -o "$build/on_device"
}

# run_case LOG NAME [COMMAND...]: one test case, as an argument of COMMAND.
run_case() {
  local log=$1 name=$2 begin=$SECONDS
  shift 2
  # A comma ends a pattern of doctest's.
  if "$@" "$build/on_device" --test-case="${name//,/?}" >"$log" 2>&1; then
    say "passed in $((SECONDS - begin)) s: $name"
  else
    say "FAILED: $name"
    cat "$log" >&2
    return 1
  fi
}

# each_case [COMMAND...]: all test cases, as many at a time as there are processors.
each_case() {
  local names name i failed=0 jobs=()
  mkdir -p "$build/cases"
  mapfile -t names < <("$build/on_device" --list-test-cases | grep -E '^(on the device|refused): ')
  ((${#names[@]})) || fail "the test program names no test cases"
  for i in "${!names[@]}"; do
    name=${names[i]}
    # The caller's own errors are made on purpose, and would be reported.
    [[ $# -gt 0 && $name == *"error of the caller"* ]] && continue
    free_processor
    OMP_NUM_THREADS=4 run_case "$build/cases/$i.log" "$name" "${@:-env}" &
    jobs+=($!)
  done
  for i in "${jobs[@]}"; do wait "$i" || failed=1; done
  ((failed == 0)) || fail "test cases failed"
}

run_tests() {
  build_tests
  say "the tests"
  each_case
}

program_of() { echo "$build/alone_$(basename "$(dirname "$1")")_$(basename "$1" .cu)"; }

run_examples() {
  local source program nccl=() link=() capture=$root/examples/capture/smollm2-135m.safetensors
  say "building the examples"
  if links nccl 'int version; return ncclGetVersion(&version);'; then
    nccl=(-DKVEVICT_TEST_NCCL=1) link=(-lnccl)
  else
    say "no NCCL to link: ranks add up without it"
  fi
  shopt -s nullglob
  local alone=("$root"/tests/cuda/*_on_device.cu "$root"/examples/cuda_*/main.cu)
  shopt -u nullglob
  {
    for source in "${alone[@]}"; do echo "$(program_of "$source").o $source ${nccl[*]}"; done
    echo "$build/compare_device.o $root/examples/compare/device.cu"
    echo "$build/compare_tensor_file.o $root/examples/tensor_file/tensor_file.cpp -O2"
    for source in "$root"/examples/compare/*.cpp; do
      [[ $source == */no_device.cpp ]] ||
        echo "$build/compare_$(basename "$source").o $source -O2 -DKVEVICT_PICTURES_SCRIPT=\"pictures.py\""
    done
  } | compile_all
  for source in "${alone[@]}"; do
    program=$(program_of "$source")
    nvcc "-arch=sm_$target" "$program.o" "${link[@]}" -o "$program"
    say "${source#"$root"/}"
    "$program"
    if [[ $source == */ranks_on_device.cu ]]; then
      say "the same over NCCL, where there are two devices"
      "$program" nccl || (($? == 77))
    fi
  done
  nvcc "-arch=sm_$target" -Xcompiler -fopenmp "$build"/compare_*.o -o "$build/compare"
  say "compare --backend cuda"
  "$build/compare" "$capture" --future 128 --backend cuda --json "$build/compare.json" | tee "$build/compare.txt"
}

run_sanitizer() {
  build_tests
  local tool sanitizer
  sanitizer=$(command -v compute-sanitizer || echo "$(dirname "$(readlink -f "$(command -v nvcc)")")/compute-sanitizer")
  [[ -x $sanitizer ]] || fail "no compute-sanitizer beside nvcc; it is a part of the CUDA toolkit"
  (($#)) || set -- memcheck synccheck racecheck
  for tool in "$@"; do
    say "compute-sanitizer $tool"
    KVEVICT_RUNS=1 KVEVICT_LIGHT=1 each_case "$sanitizer" --tool "$tool" --error-exitcode 1
  done
}

run_bench() {
  say "building the benchmark"
  local source blas=() link=()
  if links cublas_v2 'cublasHandle_t handle; return cublasCreate(&handle);' cublas; then link=(-lcublas); else blas=(-DKVEVICT_NO_CUBLAS) && say "no cuBLAS to link: no product of it"; fi
  {
    for source in "$root"/bench/gpu/*.cu; do echo "$build/bench_$(basename "$source").o $source ${blas[*]}"; done
    for source in "$root"/bench/gpu/*.cpp; do echo "$build/bench_$(basename "$source").o $source -O3"; done
  } | compile_all
  nvcc "-arch=sm_$target" -Xcompiler -fopenmp "$build"/bench_*.o "${link[@]}" -o "$build/gpu_bench"
  say "the benchmark"
  "$build/gpu_bench" "$build" "$state" "$@"
  say "clocks and temperature now: $(ask clocks.sm,clocks.mem,temperature.gpu)"
  local folder=${root}/bench/results
  say "the tables are $build/gpu.md and $build/gpu.json; to keep them:"
  echo "  cp $build/gpu.md $folder/$(date +%F)-GPU.md && cp $build/gpu.json $folder/$(date +%F)-GPU.json"
}

while (($#)); do
  part=$1
  shift
  case $part in
    tests) run_tests ;;
    examples) run_examples ;;
    sanitize)
      tool=()
      if (($#)) && [[ $1 == *check ]]; then tool=("$1") && shift; fi
      run_sanitizer "${tool[@]}"
      ;;
    bench)
      filter=()
      if (($#)) && [[ $1 != tests && $1 != examples && $1 != sanitize ]]; then filter=("$1") && shift; fi
      run_bench "${filter[@]}"
      ;;
    *) fail "unknown part '$part'; they are tests, examples, sanitize and bench" ;;
  esac
  say "$part: done"
done
