// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include <kvevict/cpu.hpp>
#include <kvevict/cuda/compact/blocks.hpp>
#include <random>
#include <set>

#include "../support/simulated_block.hpp"

using namespace kvevict;

namespace {

/// A paged cache as far as its blocks go: every id of the tables once, and what the rows hold.
struct tables {
  cache_shape shape;
  std::vector<index_t> ids, lengths, held;
  paged layout;

  tables(std::mt19937& chance, paged::tables scope)
      : shape{.layers = index_t(1 + chance() % 3), .seqs = index_t(1 + chance() % 4), .kv_heads = 2} {
    layout = {.max_blocks = index_t(1 + chance() % 40), .block_size = index_t(1 + chance() % 17), .scope = scope};
    layout.seqs = shape.seqs;
    const auto rows = std::size_t(table_rows(layout, shape));
    for (std::size_t i = 0; i < rows * std::size_t(layout.max_blocks); ++i) ids.push_back(index_t(i));
    std::shuffle(ids.begin(), ids.end(), chance);
    layout.block_table = ids.data();
    const auto room = unsigned(layout.max_blocks * layout.block_size);
    for (index_t r = 0; r < shape.rows(); ++r) lengths.push_back(index_t(chance() % (room + 1)));
    for (std::size_t t = 0; t < rows; ++t) {
      const index_t needed = detail::blocks_needed(layout, shape, lengths.data(), 0, offset_t(t));
      held.push_back(needed + index_t(chance() % unsigned(layout.max_blocks - needed + 1)));
    }
  }
  tables(const tables&) = delete;
};

struct freed_blocks {
  std::vector<index_t> held, ids;
  offset_t count = -7;
  friend bool operator==(const freed_blocks&, const freed_blocks&) = default;
};

/// The kernels in the order in which the entry point launches them.
[[nodiscard]] freed_blocks simulated_free(const tables& in, index_t slack, offset_t room, int threads,
                                          std::uint32_t seed) {
  freed_blocks out{in.held, std::vector<index_t>(std::size_t(room), -7)};
  const detail::blocks_task task{in.layout,      in.shape, in.lengths.data(), slack, out.held.data(),
                                 out.ids.data(), room,     &out.count};
  simulated::run_grid(index_t(task.tables()), threads, detail::free_blocks_bytes, seed,
                      [&](simulated::block& b) { detail::list_freed(b, task); });
  simulated::run_grid(1, threads, detail::free_blocks_bytes, seed,
                      [&](simulated::block& b) { detail::shorten_tables(b, task); });
  return out;
}

template <class F>
void for_tables(const F& f) {
  for (std::uint32_t seed = 0; seed < 60; ++seed)
    for (const auto scope : {paged::tables::per_seq, paged::tables::per_layer, paged::tables::per_row}) {
      CAPTURE(seed);
      CAPTURE(int(scope));
      std::mt19937 chance(seed);
      tables in(chance, scope);
      f(in, chance, simulated::threads_of(seed), seed);
    }
}

}  // namespace

TEST_CASE("kernels: the freed blocks are the CPU's, in its order") {
  for_tables([](tables& in, std::mt19937& chance, int threads, std::uint32_t seed) {
    const auto slack = index_t(chance() % 3 * 5);
    freed_blocks expected{in.held, std::vector<index_t>(in.ids.size(), -7)};
    REQUIRE(
        free_blocks(in.layout, in.shape, in.lengths.data(), slack, {expected.held.data()}, expected.ids, expected.count)
            .ok());
    REQUIRE(simulated_free(in, slack, offset_t(in.ids.size()), threads, seed) == expected);
    // Exactly the room that it takes is enough.
    expected.ids.resize(std::size_t(expected.count));
    REQUIRE(simulated_free(in, slack, expected.count, threads, seed) == expected);
  });
}

TEST_CASE("kernels: blocks without room stay with their rows, and come with a later call") {
  for_tables([](tables& in, std::mt19937& chance, int threads, std::uint32_t seed) {
    freed_blocks all{in.held, std::vector<index_t>(in.ids.size())};
    REQUIRE(free_blocks(in.layout, in.shape, in.lengths.data(), 0, {all.held.data()}, all.ids, all.count).ok());
    const auto room = offset_t(chance() % unsigned(all.count + 1));
    const freed_blocks some = simulated_free(in, 0, room, threads, seed);
    REQUIRE(some.count <= room);
    REQUIRE(std::equal(some.ids.begin(), some.ids.begin() + some.count, all.ids.begin()));
    offset_t fewer = 0;
    for (std::size_t t = 0; t < in.held.size(); ++t) {
      REQUIRE((some.held[t] == all.held[t] || some.held[t] == in.held[t]));
      fewer += in.held[t] - some.held[t];
    }
    REQUIRE(fewer == some.count);
    in.held = some.held;
    const freed_blocks rest = simulated_free(in, 0, offset_t(in.ids.size()), threads, seed);
    REQUIRE(some.count + rest.count == all.count);
    REQUIRE(std::equal(rest.ids.begin(), rest.ids.begin() + rest.count, all.ids.begin() + some.count));
    REQUIRE(rest.held == all.held);
  });
}

TEST_CASE("kernels: a table row with an impossible number of blocks keeps them") {
  // Two heads with tables of their own, blocks of 4 slots: the first holds fewer than its 9 slots need, or too many.
  std::mt19937 chance(1);
  tables in(chance, paged::tables::per_row);
  in.shape = {.kv_heads = 2};
  in.ids = {10, 11, 12, 20, 21, 22};
  in.layout = paged_per_row(in.ids.data(), 3, 4, 8);
  in.lengths = {9, 3};
  for (const index_t wrong : {2, 4, -1}) {
    in.held = {wrong, 3};
    const freed_blocks out = simulated_free(in, 0, 6, 32, 1);
    CHECK(out.held == std::vector<index_t>{wrong, 1});
    CHECK(out.count == 2);
    CHECK(std::vector<index_t>(out.ids.begin(), out.ids.begin() + 2) == std::vector<index_t>{21, 22});
  }
}
