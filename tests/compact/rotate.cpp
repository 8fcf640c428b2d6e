// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include <cmath>
#include <string>

#include "../support/storage.hpp"

using namespace kvevict;

namespace {

/// Rotates x[dims] to a position, in double.
std::vector<double> rotated(const std::vector<double>& x, double position, const std::vector<double>& frequencies,
                            rope_pairs pairs) {
  std::vector<double> y = x;
  const std::size_t half = frequencies.size();
  for (std::size_t i = 0; i < half; ++i) {
    const std::size_t a = pairs == rope_pairs::half_split ? i : 2 * i;
    const std::size_t b = pairs == rope_pairs::half_split ? i + half : 2 * i + 1;
    const double c = std::cos(position * frequencies[i]), s = std::sin(position * frequencies[i]);
    y[a] = x[a] * c - x[b] * s;
    y[b] = x[a] * s + x[b] * c;
  }
  return y;
}

/// theta^(-2 i / dims), and the piecewise rescaling of Llama 3 (factor 8, 8192 original positions).
std::vector<double> plain(index_t dims, double theta = 10000) {
  std::vector<double> f;
  for (index_t i = 0; i < dims / 2; ++i) f.push_back(std::pow(theta, -2.0 * i / dims));
  return f;
}
std::vector<double> llama3(index_t dims) {
  std::vector<double> f = plain(dims, 500000);
  for (double& x : f) {
    const double wavelength = 2 * 3.14159265358979 / x, low = 8192.0 / 1, high = 8192.0 / 4;
    const double smooth = (8192 / wavelength - 1) / (4 - 1);
    x = wavelength > low ? x / 8 : wavelength < high ? x : (1 - smooth) * x / 8 + smooth * x;
  }
  return f;
}

}  // namespace

TEST_CASE("re-rotation equals rotating the original to the new position") {
  struct setting {
    const char* name;
    rope_pairs pairs;
    index_t dims, rotary;
    std::vector<double> frequencies;
  };
  const setting table[] = {{"Llama", rope_pairs::half_split, 64, 64, plain(64)},
                           {"interleaved", rope_pairs::interleaved, 64, 64, plain(64)},
                           {"partial (a quarter)", rope_pairs::half_split, 64, 16, plain(16)},
                           {"partial, interleaved", rope_pairs::interleaved, 80, 32, plain(32)},
                           {"Llama 3 scaling", rope_pairs::half_split, 128, 128, llama3(128)}};
  for (const setting& s : table) {
    CAPTURE(s.name);
    const index_t n = 50, heads = 2;
    const auto raw = host::normal(std::size_t(heads * n * s.dims), 4);
    std::vector<float> keys(raw.size());
    std::vector<index_t> before, after;
    for (index_t h = 0; h < heads; ++h)
      for (index_t j = 0; j < n; ++j) {
        before.push_back(h * 7 + j * j * 40);  // up to 96 k
        after.push_back(j % 5 == 0 ? before.back() : j);
      }
    const auto original = [&](std::size_t row) {
      return std::vector<double>(raw.begin() + offset_t(row) * s.dims, raw.begin() + offset_t(row + 1) * s.dims);
    };
    for (std::size_t row = 0; row < before.size(); ++row) {
      const auto k = rotated(original(row), before[row], s.frequencies, s.pairs);
      for (index_t d = 0; d < s.dims; ++d) keys[row * std::size_t(s.dims) + std::size_t(d)] = float(k[std::size_t(d)]);
    }
    const auto stored = keys;
    const cache c{cache_shape{1, 1, heads}, n, entries{keys.data(), hnd(1, heads, n, s.dims), s.dims},
                  entries{keys.data(), hnd(1, heads, n, s.dims), s.dims}};
    const strided per_slot = hnd(1, heads, n, 1);
    REQUIRE(rotate_keys(cpu{}, c, rope{s.frequencies.data(), s.rotary, s.pairs}, position_view{before.data(), per_slot},
                        position_view{after.data(), per_slot})
                .ok());
    for (std::size_t row = 0; row < before.size(); ++row) {
      const auto k = rotated(original(row), after[row], s.frequencies, s.pairs);
      double error = 0, size = 0;
      for (std::size_t d = 0; d < k.size(); ++d) {
        const float got = keys[row * k.size() + d];
        error += std::pow(double(got) - k[d], 2);
        size += k[d] * k[d];
        if (before[row] == after[row] || index_t(d) >= s.rotary) REQUIRE(got == stored[row * k.size() + d]);
      }
      CHECK(std::sqrt(error / size) <= 1e-6);
    }
  }
}

TEST_CASE("half precision keys are rounded once") {
  const auto frequencies = plain(8);
  const auto check = [&]<class E>(E) {
    std::vector<E> keys;
    for (const float x : host::normal(8, 2)) keys.push_back(host::element<E>(x));
    std::vector<double> x;
    for (const E e : keys) x.push_back(double(to_float(e)));
    const index_t from = 3, to = 9;
    const key_cache c{cache_shape{1, 1, 1}, 1, entries{keys.data(), hnd(1, 1, 1, 8), 8}};
    REQUIRE(rotate_keys(cpu{}, c, rope{frequencies.data(), 8}, position_view{&from, {}}, position_view{&to, {}}).ok());
    const auto y = rotated(x, 6, frequencies, rope_pairs::half_split);
    for (std::size_t d = 0; d < 8; ++d) CHECK(host::same_bits(keys[d], host::element<E>(float(y[d]))));
  };
  check(half{});
  check(bfloat16{});
}

TEST_CASE("bad embeddings are refused, keys stay") {
  std::vector<float> keys(8, 1.F);
  const auto before = keys;
  const auto frequencies = plain(8);
  const index_t zero = 0, one = 1;
  const key_cache c{cache_shape{1, 1, 1}, 1, entries{keys.data(), hnd(1, 1, 1, 8), 8}};
  const auto expect = [&](const rope& r, const position_view& from, const position_view& to, status_code code,
                          const char* argument) {
    const status s = rotate_keys(cpu{}, c, r, from, to);
    CHECK(s.code == code);
    CHECK(std::string(s.argument) == argument);
    CHECK(keys == before);
  };
  const position_view a{&zero, {}}, b{&one, {}}, none{};
  expect({nullptr, 8}, a, b, status_code::bad_pointer, "frequencies");
  for (const index_t dims : {0, -2, 3, 10})
    expect({frequencies.data(), dims}, a, b, status_code::bad_shape, "rotary_dims");
  expect({frequencies.data(), 8}, none, b, status_code::bad_pointer, "from");
  expect({frequencies.data(), 8}, a, none, status_code::bad_pointer, "to");
}

TEST_CASE("keys that turn while they move are keys that move and then turn") {
  const index_t n = 40, heads = 2, dims = 16;
  const auto frequencies = plain(8);
  const auto raw = host::normal(std::size_t(heads * n * dims), 5);
  const strided layout = hnd(1, heads, n, dims), per_slot = hnd(1, heads, n, 1);
  const cache_shape shape{1, 1, heads};
  const auto over = [&](std::vector<float>& keys) { return key_cache{shape, n, entries{keys.data(), layout, dims}}; };
  std::vector<index_t> slots, positions, in_order;
  std::vector<offset_t> offsets{0};
  for (index_t h = 0; h < heads; ++h) {
    for (index_t j = 0; j < n; ++j) {
      if (j < 3 || (j * 7 + h) % 3 != 0) slots.push_back(j);
      positions.push_back(j * j * 100 + h);
      in_order.push_back(j);
    }
    offsets.push_back(offset_t(slots.size()));
  }
  const selection kept{slots, offsets};
  std::vector<index_t> lengths(std::size_t(heads), 0);
  retained_lengths(kept, lengths.data());

  for (const rope_pairs pairs : {rope_pairs::half_split, rope_pairs::interleaved})
    for (const bool positions_given : {false, true}) {
      const rope embedding{frequencies.data(), 8, pairs};
      const position_view from{positions.data(), per_slot}, to{in_order.data(), per_slot};
      const turned_keys how = positions_given ? turned_keys{embedding, from, to} : turned_keys{embedding};

      std::vector<float> expected = raw;
      std::vector<index_t> were = positions_given ? positions : in_order;
      REQUIRE(compact_in_place(cpu{}, over(expected), kept, side(were.data(), per_slot)).ok());
      const key_cache left{shape, lengths.data(), entries{expected.data(), layout, dims}};
      REQUIRE(rotate_keys(cpu{}, left, embedding, position_view{were.data(), per_slot}, to).ok());

      std::vector<float> in_place = raw, target(raw.size()), swapped = raw;
      REQUIRE(compact_in_place(cpu{}, over(in_place), kept, how).ok());
      REQUIRE(gather(cpu{}, over(swapped), kept, over(target), how).ok());
      CHECK(swapped == raw);
      std::vector<index_t> places = in_order;
      const token_order order{places.data(), per_slot};
      REQUIRE(swap_fill(cpu{}, over(swapped), order, kept, how).ok());
      for (index_t h = 0; h < heads; ++h)
        for (index_t k = 0; k < lengths[std::size_t(h)]; ++k)
          for (index_t d = 0; d < dims; ++d) {
            const row_id row = shape.row(h);
            const float wanted = expected[std::size_t(layout.offset(row, k, d))];
            REQUIRE(in_place[std::size_t(layout.offset(row, k, d))] == wanted);
            REQUIRE(target[std::size_t(layout.offset(row, k, d))] == wanted);
            REQUIRE(swapped[std::size_t(layout.offset(row, order(row, k), d))] == wanted);
          }
    }
  std::vector<float> keys = raw;
  const status s = compact_in_place(cpu{}, over(keys), kept, turned_keys{{frequencies.data(), 18}});
  CHECK(s.code == status_code::bad_shape);
  CHECK(std::string(s.argument) == "rotary_dims");
  CHECK(keys == raw);
}
