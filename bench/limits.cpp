// SPDX-License-Identifier: MIT
#include "limits.hpp"

#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>

#include "huge_pages.hpp"

namespace {

#if defined(__AVX512F__)
constexpr int width = 16;
#elif defined(__AVX__)
constexpr int width = 8;
#else
constexpr int width = 4;
#endif
using vec [[gnu::vector_size(width * sizeof(float))]] = float;

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

float sum_of_lanes(const vec& s) {
  float sum = 0;
  for (int i = 0; i < width; ++i) sum += s[i];
  return sum;
}

/// Ten chains of multiply-adds: enough to hide the latency of two units, few enough for 16 registers. They start apart,
/// because of equal chains a compiler computes one, and from values that it does not know: of a chain that stands still
/// (1 * 0.999 + 0.001) it computes nothing.
float multiply_adds(std::int64_t rounds) {
  const volatile float factor = 0.999F, term = 1e-3F;
  const vec a = factor - vec{}, b = term - vec{};
  vec s0 = a, s1 = s0 + b, s2 = s1 + b, s3 = s2 + b, s4 = s3 + b;
  vec s5 = s4 + b, s6 = s5 + b, s7 = s6 + b, s8 = s7 + b, s9 = s8 + b;
  for (std::int64_t i = 0; i < rounds; ++i) {
    s0 = s0 * a + b, s1 = s1 * a + b, s2 = s2 * a + b, s3 = s3 * a + b, s4 = s4 * a + b;
    s5 = s5 * a + b, s6 = s6 * a + b, s7 = s7 * a + b, s8 = s8 * a + b, s9 = s9 * a + b;
  }
  s0 += s1 + s2 + s3 + s4 + s5 + s6 + s7 + s8 + s9;
  return sum_of_lanes(s0);
}

/// Reads everything and writes nothing.
float read_all(const vec* from, std::size_t count) {
  vec s0{}, s1{}, s2{}, s3{};
  for (std::size_t i = 0; i + 4 <= count; i += 4)
    s0 += from[i], s1 += from[i + 1], s2 += from[i + 2], s3 += from[i + 3];
  return sum_of_lanes(s0 + s1 + s2 + s3);
}

/// The best of several rounds: other programs only ever slow a round down.
template <class Work>
double best_seconds(int rounds, int threads, const Work& work) {
  double best = 1e9;
  for (int i = 0; i < rounds; ++i) {
    const double start = now();
#pragma omp parallel num_threads(threads)
    work();
    best = std::min(best, now() - start);
  }
  return best;
}

machine_limits measure(int threads) {
  machine_limits m;
  constexpr std::int64_t rounds = 4'000'000;
  volatile float sink = 0;
  // A quarter of a second: within 40 ms a system may leave all threads on one core.
  const double seconds = best_seconds(60, threads, [&] { sink = multiply_adds(rounds); });
  m.gflops = 2.0 * 10 * width * static_cast<double>(rounds) * threads / seconds / 1e9;

  constexpr std::size_t bytes = std::size_t{256} << 20;
  big_vector<char> from(bytes, 1), to(bytes, 2);
  const double copy = best_seconds(7, threads, [&] {
    const auto n = static_cast<std::size_t>(omp_get_num_threads()), t = static_cast<std::size_t>(omp_get_thread_num());
    std::memcpy(to.data() + bytes / n * t, from.data() + bytes / n * t, bytes / n);
  });
  m.copy_gbs = 2.0 * bytes / copy / 1e9;
  const double read = best_seconds(7, threads, [&] {
    const auto n = static_cast<std::size_t>(omp_get_num_threads()), t = static_cast<std::size_t>(omp_get_thread_num());
    constexpr std::size_t vectors = bytes / sizeof(vec);
    sink = read_all(reinterpret_cast<const vec*>(from.data()) + vectors / n * t, vectors / n);
  });
  m.read_gbs = bytes / read / 1e9;
  return m;
}

}  // namespace

const machine_limits& limits(int threads) {
  static std::map<int, machine_limits> known;
  const auto found = known.find(threads);
  return found != known.end() ? found->second : known.emplace(threads, measure(threads)).first->second;
}
