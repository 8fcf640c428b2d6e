// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/budget/rule.hpp>

namespace kvevict::budget {

/// PyramidKV's layer schedule (arXiv 2406.02069): budgets fall linearly with depth around the mean B.
///
///     B = size;  low = B / beta;  high = 2 B - low
///     if high >= n - w:   high = n - w, low = 2 B - high        n = length, w = protected slots
///     budget(layer) = round(high - layer * (high - low) / (layers - 1))
///
///     where not n >= high >= low >= w, or with one layer: round(B) everywhere
///
/// Rounding is to even. This is kvpress 0.5.5's reading (w inside the budget, real-valued step). The authors' code
/// adds the window on top and floors the step, so its total exceeds the nominal one. The mean of ours is B to
/// within the rounding of each layer.
struct pyramid {
  static constexpr bool joint = false;
  amount size{};
  double beta = 20;  ///< at least 1; the larger, the steeper
  friend constexpr bool operator==(const pyramid&, const pyramid&) = default;

  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr offset_t nominal(const cache_shape& shape, const row_extent& e) const {
    const double mean = size.exactly_of(e.length), n = e.length, w = e.protected_slots;
    double low = mean / beta, high = 2 * mean - low;
    if (high >= n - w) {
      high = n - w;
      low = 2 * mean - high;
    }
    const index_t layers = shape.depth();
    if (layers < 2 || !(n >= high && high >= low && low >= w)) return to_even(mean);
    const double step = (high - low) / (layers - 1);
    return to_even(high - rounded_product<double>(shape.first_layer + e.row.layer, step));
  }

  [[nodiscard]] constexpr status check() const {
    if (!(beta >= 1 && beta < 1e9)) return {status_code::bad_option, "beta", "beta must be at least 1 and below 1e9"};
    return check_size(size);
  }

 private:
  KVEVICT_HOST_DEVICE static constexpr offset_t to_even(double x) {
    const auto below = static_cast<offset_t>(x);  // x >= 0
    const double rest = x - static_cast<double>(below);
    return rest > 0.5 || (rest == 0.5 && below % 2 != 0) ? below + 1 : below;
  }
};

}  // namespace kvevict::budget
