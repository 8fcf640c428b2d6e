// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include <cmath>
#include <iterator>
#include <kvevict/select/order.hpp>
#include <limits>

using kvevict::order_key;

TEST_CASE("keys order floats, NaN lowest, -0 equal to +0") {
  constexpr float inf = std::numeric_limits<float>::infinity();
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  const float ascending[] = {nan,    -inf, -std::numeric_limits<float>::max(), -1.5F, -1e-45F, 0.0F, 1e-45F,
                             1e-38F, 1.0F, std::nextafter(1.0F, 2.0F),         inf};
  for (std::size_t i = 1; i < std::size(ascending); ++i) {
    CAPTURE(i);
    CHECK(order_key(ascending[i - 1]) < order_key(ascending[i]));
  }
  CHECK(order_key(-0.0F) == order_key(0.0F));
  CHECK(order_key(-nan) == order_key(nan));
}
