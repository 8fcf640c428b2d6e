// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include <cmath>
#include <kvevict/core/element.hpp>
#include <kvevict/core/ragged.hpp>
#include <kvevict/core/shape.hpp>
#include <kvevict/core/workspace.hpp>
#include <type_traits>
#include <vector>

using namespace kvevict;

TEST_CASE("half: every value, both ways, against the definition") {
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const half h{static_cast<std::uint16_t>(bits)};
    const int exponent = int(bits >> 10 & 31), fraction = int(bits & 1023);
    const double sign = (bits & 0x8000) != 0 ? -1 : 1;
    const float x = to_float(h);
    if (exponent == 31) {
      REQUIRE((fraction == 0 ? std::isinf(x) : std::isnan(x)));
      if (fraction != 0) continue;
    } else {
      const double value =
          sign * (exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25));
      REQUIRE(double(x) == value);
    }
    REQUIRE(to_half(x).bits == bits);
  }
}

TEST_CASE("half and bfloat16: rounding to nearest, ties to even") {
  CHECK(to_half(1.0F + 0x1p-11F).bits == 0x3c00);
  CHECK(to_half(1.0F + 0x3p-11F).bits == 0x3c02);
  CHECK(to_half(65519.0F).bits == 0x7bff);
  CHECK(to_half(65520.0F).bits == 0x7c00);
  CHECK(to_half(0x1p-25F).bits == 0);
  CHECK(to_half(0x1.8p-24F).bits == 2);
  CHECK(to_bfloat16(1.0F + 0x1p-8F).bits == 0x3f80);
  CHECK(to_bfloat16(1.0F + 0x3p-8F).bits == 0x3f82);
  CHECK(std::isnan(to_float(to_bfloat16(std::nanf("")))));
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const float x = to_float(bfloat16{static_cast<std::uint16_t>(bits)});
    if (!std::isnan(x)) REQUIRE(to_bfloat16(x).bits == bits);
  }
}

TEST_CASE("rows are numbered layer by layer, sequence by sequence") {
  const cache_shape shape{2, 3, 4};
  CHECK(shape.rows() == 24);
  CHECK(shape.row(0) == row_id{0, 0, 0, 0});
  CHECK(shape.row(23) == row_id{1, 2, 3, 23});
  CHECK(shape.row(17) == row_id{1, 1, 1, 17});
  CHECK((cache_shape{1 << 10, 1 << 10, 1 << 12}.rows()) == offset_t{1} << 32);
}

TEST_CASE("the carver measures and places the same bytes, each piece on a cache line") {
  carver count;
  count.take<float>(3);
  count.take<double>(9);
  CHECK(count.bytes() == 64 + 128);
  alignas(64) std::byte memory[192];
  carver place(memory);
  CHECK(reinterpret_cast<std::byte*>(place.take<float>(3)) == memory);
  CHECK(reinterpret_cast<std::byte*>(place.take<double>(9)) == memory + 64);
  CHECK(place.bytes() == count.bytes());
}

TEST_CASE("ragged rows and spans") {
  std::vector<int> data{1, 2, 3, 4, 5};
  const std::vector<offset_t> offsets{0, 2, 2, 5};
  const ragged<int> rows{data.data(), offsets.data(), 3};
  CHECK(rows.length(1) == 0);
  CHECK(rows[2][0] == 3);
  CHECK(rows[2].size() == 3);
  static_assert(std::is_trivially_copyable_v<ragged<int>> && std::is_trivially_copyable_v<span<float>>);
}
