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
  [[nodiscard]] bool has(std::int32_t t) const { return low < t && t < high; }

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

  /// The function is `over` at t.
  void narrow(std::int32_t t, double over) {
    const index_t end = over > 0 ? 1 : -1;
    if (end == last) (over > 0 ? shortage : excess) /= 2;
    if (over > 0)
      low = t, excess = over;
    else
      high = t, shortage = -over;
    last = end;
    ++round;
  }
};

}  // namespace kvevict::detail
