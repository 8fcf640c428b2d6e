// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include <kvevict/cuda/detail/warpgroup.hpp>
#include <random>

#include "../support/simulated_block.hpp"

using namespace kvevict;

// The emulation of what a warpgroup multiplies on its own: the product, and that nothing that is missing goes unseen.

namespace {

constexpr int threads = 256, tiles = 4, columns = 8 * tiles;
using kvevict::half;

/// What may be forgotten.
enum class left_out {
  nothing,
  store_fence,
  barrier,
  register_fence,
  waiting,
  copies,
  early_sums,
  early_rows,
  early_columns
};

/// sums = rows * columns for 16 k, with rows and columns that the caller names by row, column and k.
template <class Rows, class Columns>
std::vector<detail::mma_sums> multiply(const Rows& row, const Columns& column, left_out without) {
  std::vector<detail::mma_sums> result;
  struct alignas(16) piece {
    half x[8];
  };
  std::vector<piece> pieces;
  for (int n = 0; n < columns; ++n)
    for (int k = 0; k < 16; k += 8) {
      piece& p = pieces.emplace_back();
      for (int i = 0; i < 8; ++i) p.x[i] = to_half(column(n, k + i));
    }
  simulated::run_grid(1, threads, columns * 128 + 2 * columns * 16, 3, [&](simulated::block& b) {
    const auto held = b.shared<std::uint32_t>(columns * 32);  // of the 64 k of a column the last 16
    const auto ahead = b.shared<std::uint32_t>(8 * columns);
    simulated::block::local<detail::mma_sums> sums[tiles];
    for (auto& tile : sums) tile = b.make_local<detail::mma_sums>();
    auto rows = b.make_local<detail::mma_rows>();
    b.each([&](int t) {
      if (t < 2 * columns) b.copy_ahead(t, ahead, 4 * t, pieces.data() + t);
    });
    if (without != left_out::copies) b.copies_done();
    b.each([&](int t) {
      if (t < 2 * columns)  // column t / 2, piece t % 2
        for (int w = 0; w < 4; ++w)
          held.store(t, detail::wgmma_place(t / 2, 6 + t % 2) * 4 + w, ahead.load(t, 4 * t + w));
      const auto two = [&](int r, int k) {
        return to_half(row(r, k)).bits | std::uint32_t{to_half(row(r, k + 1)).bits} << 16;
      };
      const int r = t / 32 * 16 + t % 32 / 4, k = t % 4 * 2;
      rows[t] = {{two(r, k), two(r + 8, k), two(r, k + 8), two(r + 8, k + 8)}};
    });
    if (without != left_out::store_fence) b.wgmma_fence_stores();
    if (without != left_out::barrier) b.sync();
    if (without != left_out::register_fence) b.wgmma_begin();
    b.wgmma<half>(sums, rows, detail::further(detail::wgmma_columns(held.address()), 6), false);
    b.wgmma_end();
    if (without == left_out::early_sums) b.each([&](int t) { sums[0][t].x[0] = 1; });
    if (without == left_out::early_rows) b.each([&](int t) { rows[t].x[0] += 1; });
    if (without == left_out::early_columns) {
      b.sync();
      b.each([&](int t) { held.store(t, 4 * t, 0); });
      b.wgmma_fence_stores();
      b.sync();
    }
    if (without == left_out::waiting) return;
    b.wgmma_wait<0>(sums);
    b.wgmma_begin();  // and added to
    b.wgmma<half>(sums, rows, detail::further(detail::wgmma_columns(held.address()), 6), true);
    b.wgmma_end();
    b.wgmma_wait<1>(sums);
    b.each([&](int t) { CHECK(std::isnan(sums[0][t].x[0])); });
    b.wgmma_wait<0>(sums);
    for (int n = 0; n < tiles; ++n)
      for (int t = 0; t < threads; ++t) result.push_back(sums[n][t]);
  });
  return result;
}

}  // namespace

TEST_CASE("kernels: the emulated warpgroup multiplies") {
  std::mt19937 chance(2);
  std::vector<float> a(threads / 2 * 16), b(columns * 16);
  for (float& x : a) x = float(int(chance() % 17)) - 8;
  for (float& x : b) x = float(int(chance() % 17)) - 8;
  const auto row = [&](int r, int k) { return a[std::size_t(r * 16 + k)]; };
  const auto column = [&](int n, int k) { return b[std::size_t(n * 16 + k)]; };
  const auto sums = multiply(row, column, left_out::nothing);
  for (int r = 0; r < threads / 2; ++r)
    for (int n = 0; n < columns; ++n) {
      float expected = 0;
      for (int k = 0; k < 16; ++k) expected += 2 * row(r, k) * column(n, k);
      const int thread = r / 16 * 32 + r % 8 * 4 + n % 8 / 2;
      CHECK(sums[std::size_t(n / 8 * threads + thread)].x[r % 16 / 8 * 2 + n % 2] == expected);
    }
}

TEST_CASE("kernels: the emulated warpgroup finds what was left out") {
  const auto one = [](int, int) { return 1.0F; };
  for (const left_out what : {left_out::store_fence, left_out::barrier, left_out::register_fence, left_out::waiting,
                              left_out::copies, left_out::early_sums, left_out::early_rows, left_out::early_columns}) {
    CAPTURE(int(what));
    CHECK_THROWS_AS(multiply(one, one, what), simulated::hazard);
  }
}

namespace {

enum class ring_fault { none, no_wait, too_few_stages, no_arrival, wrong_parity, no_start };

/// Rounds in which every thread reads what its neighbour has stored one round before.
void run_ring(int stages, ring_fault fault) {
  simulated::run_grid(1, 64, 64 * 4 * stages + 8 * stages + 16, 5, [&](simulated::block& b) {
    const auto ring = b.shared<std::uint32_t>(64 * stages);
    const auto whole = b.split_barriers(stages);
    b.each([&](int t) {
      if (t < stages && fault != ring_fault::no_start) b.start_barrier(t, whole, t);
    });
    b.sync();
    const auto fill = [&](int round) {
      const int stage = round % stages;
      b.each([&](int t) { ring.store(t, stage * 64 + t, std::uint32_t(round * 64 + t)); });
      if (fault != ring_fault::no_arrival) b.each([&](int t) { b.arrive(t, whole, stage); });
    };
    fill(0);
    for (int round = 0; round < 9; ++round) {
      fill(round + 1);
      const int stage = round % stages, parity = round / stages % 2;
      if (fault != ring_fault::no_wait) b.wait(whole, stage, fault == ring_fault::wrong_parity ? 1 - parity : parity);
      b.each([&](int t) {
        const std::uint32_t found = ring.load(t, stage * 64 + (t + 1) % 64);
        CHECK(found == std::uint32_t(round * 64 + (t + 1) % 64));
      });
    }
  });
}

}  // namespace

TEST_CASE("kernels: the emulated ring of split barriers finds what was left out") {
  run_ring(4, ring_fault::none);  // who fills a stage has waited for all to have left it
  for (const ring_fault fault :
       {ring_fault::no_wait, ring_fault::no_arrival, ring_fault::wrong_parity, ring_fault::no_start}) {
    CAPTURE(int(fault));
    CHECK_THROWS_AS(run_ring(4, fault), simulated::hazard);
  }
  CHECK_THROWS_AS(run_ring(3, ring_fault::too_few_stages), simulated::hazard);
}
