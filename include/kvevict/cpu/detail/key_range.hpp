// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <kvevict/core/types.hpp>

namespace kvevict::detail {

struct key_pair {
  std::int32_t lower, upper;
};

/// Two keys around the one where a falling function meets zero, and the next to try.
struct key_range {
  std::int32_t low, high;   ///< the function is above zero at the lower, and no more than zero at the upper key
  double excess, shortage;  ///< by how much; halved each time the other end has moved twice
  index_t round = 0, last = 0;

  [[nodiscard]] offset_t width() const { return static_cast<offset_t>(high) - low; }
  [[nodiscard]] bool open() const { return width() > 1; }

  /// How far from the lower end a straight line between the ends meets zero (Illinois rule); when that has not helped
  /// for a while, half of the range every other time, so that no function makes a search long.
  [[nodiscard]] double share() const { return round > 7 && round % 2 == 0 ? 0.5 : excess / (excess + shortage); }
  [[nodiscard]] std::int32_t at(double part) const {
    const auto step = static_cast<offset_t>(static_cast<double>(width()) * part);
    return static_cast<std::int32_t>(low + std::clamp<offset_t>(step, 1, width() - 1));
  }
  [[nodiscard]] std::int32_t next() const { return at(share()); }
  /// Two keys, that part of the range below and above the next.
  [[nodiscard]] key_pair around_next(double part) const { return {at(share() - part), at(share() + part)}; }
  /// The same keys, or the nearest that can narrow the range.
  [[nodiscard]] key_pair inside(const key_pair& keys) const {
    return {std::clamp(keys.lower, low + 1, high - 1), std::clamp(keys.upper, low + 1, high - 1)};
  }

  /// The function is that much over zero at the two keys, which lie inside and may be one.
  void narrow(const key_pair& t, double over_lower, double over_upper) {
    ++round;
    if (over_upper > 0)
      raise(t.upper, over_upper);
    else if (over_lower <= 0)
      sink(t.lower, over_lower);
    else
      *this = {t.lower, t.upper, over_lower, -over_upper, round};
  }

 private:
  void raise(std::int32_t t, double over) {
    if (last > 0) shortage /= 2;
    low = t, excess = over, last = 1;
  }
  void sink(std::int32_t t, double over) {
    if (last < 0) excess /= 2;
    high = t, shortage = -over, last = -1;
  }
};

}  // namespace kvevict::detail
