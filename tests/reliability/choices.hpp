// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <cstdint>
#include <random>
#include <stdexcept>

#include "../support/storage.hpp"

/// What properties share: numbers that bytes choose, so that a fuzzer hands in bytes and a test seeds, and the word for
/// what must hold.
namespace properties {

using namespace kvevict;

struct violated : std::logic_error {
  using std::logic_error::logic_error;
};
inline void require(bool holds, const char* property) {
  if (!holds) throw violated(property);
}

/// Rows selected so far.
inline std::uint64_t selections = 0;

/// Choices from bytes; when they are used up, a generator seeded by them goes on.
class choices {
 public:
  choices(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {
    std::uint32_t seed = 2166136261u;
    for (std::size_t i = 0; i < size; ++i) seed = (seed ^ data[i]) * 16777619u;
    generator_.seed(seed);
  }
  /// A number from `low` to `high`, both included.
  index_t between(index_t low, index_t high) {
    const std::uint32_t x = at_ < size_ ? data_[at_++] * 257u : std::uint32_t(generator_());
    return low + index_t(x % std::uint32_t(high - low + 1));
  }
  std::uint32_t bits() { return std::uint32_t(generator_()); }
  bool one_in(index_t n) { return between(1, n) == 1; }
  float number() {
    if (between(0, 200) == 0) {
      const float special[] = {0.0F, -0.0F, INFINITY, -INFINITY, NAN, 1e-40F, 3e38F};
      return special[between(0, 6)];
    }
    return normal_(generator_);
  }

 private:
  const std::uint8_t* data_;
  std::size_t size_, at_ = 0;
  std::mt19937 generator_;
  std::normal_distribution<float> normal_;
};

}  // namespace properties
