// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include <cmath>
#include <kvevict/cpu/detail/attention_tile.hpp>
#include <limits>

using kvevict::index_t;
using kvevict::detail::packet_size;

namespace {

/// exp2 of a packet whose lanes are x, x + step, x + 2 step, ...
struct lanes {
  float in[packet_size], out[packet_size];
  explicit lanes(float x, float step = 0) {
    for (index_t i = 0; i < packet_size; ++i) in[i] = x + static_cast<float>(i) * step;
    kvevict::detail::store(out, kvevict::detail::exp2(kvevict::detail::load(in)));
  }
};

}  // namespace

TEST_CASE("exponential: 2^x to within 2e-7 of its value") {
  double worst = 0;
  constexpr float step = 1.0F / 8191;  // every fraction in turn, whole numbers among them
  for (float x = -126.0F; x <= 4.0F; x += packet_size * step) {
    const lanes l(x, step);
    for (index_t i = 0; i < packet_size; ++i)
      worst = std::max(worst, std::abs(l.out[i] / std::exp2(double(l.in[i])) - 1));
  }
  for (float x = 1.0F; x > 1e-44F; x /= 1.37F)  // near zero, on both sides
    for (const float near : {x, -x})
      worst = std::max(worst, std::abs(lanes(near).out[0] / std::exp2(double(near)) - 1));
  CHECK(worst <= 2e-7);
  CHECK(worst > 0);
}

TEST_CASE("exponential: what sums of weights rest on") {
  CHECK(lanes(0.0F).out[0] == 1.0F);  // the maximum of a row weighs 1, so no sum is 0
  CHECK(lanes(-0.0F).out[0] == 1.0F);
  constexpr float least = 0x1p-126F;
  for (const float x : {-126.0F, -126.5F, -150.0F, -1e30F, -std::numeric_limits<float>::max()}) {
    CAPTURE(x);
    CHECK(lanes(x).out[0] >= 0.0F);
    CHECK(lanes(x).out[0] <= least);
  }
  CHECK(std::isnan(lanes(std::numeric_limits<float>::quiet_NaN()).out[0]));
}
