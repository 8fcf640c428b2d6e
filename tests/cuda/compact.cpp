// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include <kvevict/cpu.hpp>
#include <kvevict/cuda/compact/gather.hpp>
#include <kvevict/cuda/compact/in_place.hpp>
#include <kvevict/cuda/compact/swap_fill.hpp>
#include <random>

#include "../support/simulated_block.hpp"
#include "../support/storage.hpp"

using namespace kvevict;

namespace {

/// A selection of any slots, row by row; some rows keep nothing, some all.
struct some_kept {
  std::vector<index_t> slots;
  std::vector<offset_t> offsets{0};
  some_kept(const std::vector<index_t>& lengths, std::mt19937& chance) {
    for (const index_t n : lengths) {
      const auto of_ten = unsigned(chance() % 12);
      const index_t front = chance() % 3 == 0 ? n / 2 : 0;  // a front that stays where it is
      for (index_t s = 0; s < n; ++s)
        if (s < front || chance() % 10 < of_ten) slots.push_back(s);
      offsets.push_back(offset_t(slots.size()));
    }
    slots.push_back(-7);  // so that no selection is without memory
  }
  [[nodiscard]] selection view() { return {slots, offsets}; }
  [[nodiscard]] detail::row_moves moves() const {
    return {.slots = slots.data(), .room = offset_t(slots.size()), .offsets = offsets.data()};
  }
};

template <class Moved>
void run_gather(const cache_shape& shape, const detail::row_moves& kept, const Moved& moved, int threads,
                index_t shares, std::uint32_t seed) {
  const detail::gather_task<Moved> task{shape, kept, moved, shares};
  simulated::run_grid(index_t(task.blocks()), threads, 0, seed,
                      [&](simulated::block& b) { detail::gather_rows(b, task); });
}
template <class Moved>
[[nodiscard]] detail::in_place_task<Moved> in_place(const cache_shape& shape, const detail::row_moves& kept,
                                                    const Moved& moved) {
  return {shape, kept, moved};
}

/// The kernels in the order in which the entry points launch them.
template <class From, class To, class... T>
void simulated_gather(const From& from, const detail::row_moves& kept, const To& to, int threads, index_t shares,
                      std::uint32_t seed, const side_array<T>&... sides) {
  run_gather(from.shape(), kept, detail::moved_between(from, to, sides...), threads, shares, seed);
}
template <class Cache, class... T>
void simulated_in_place(const Cache& cache, const detail::row_moves& kept, int threads, index_t parts,
                        std::uint32_t seed, const side_array<T>&... sides) {
  const auto task = in_place(cache.shape(), kept, detail::moved_within(cache, parts, sides...));
  simulated::run_grid(index_t(task.blocks()), threads, 0, seed,
                      [&](simulated::block& b) { detail::compact_rows(b, task); });
}
template <class Cache, class... T>
void simulated_swap_fill(const Cache& cache, const token_order& order, const detail::row_moves& kept, int threads,
                         index_t shares, std::uint32_t seed, const side_array<T>&... sides) {
  carver count;
  detail::swap_memory::take(count, kept.room, cache.shape().rows());
  host::scratch memory(count.bytes());
  carver place(memory.get().data);
  const auto m = detail::swap_memory::take(place, kept.room, cache.shape().rows());
  const detail::swap_task<Cache> plan{cache, order, kept, m};
  simulated::run_grid(index_t(cache.shape().rows()), threads, detail::plan_swaps_bytes, seed,
                      [&](simulated::block& b) { detail::plan_swaps(b, plan); });
  run_gather(cache.shape(), detail::planned(kept, m), detail::moved_within(cache, 1, sides...), threads, shares, seed);
}

template <class T>
[[nodiscard]] bool same(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

/// Side arrays of every width, [rows][room].
struct triple {
  std::uint8_t bytes[3];
};
struct side_memory {
  strided layout;
  std::vector<index_t> positions;
  std::vector<std::uint8_t> flags;
  std::vector<triple> odd;
  side_memory(const cache_shape& shape, index_t room, unsigned seed)
      : layout(hnd(shape.seqs, shape.kv_heads, room, 1)) {
    std::mt19937 chance(seed);
    for (offset_t i = 0; i < shape.rows() * room; ++i) {
      positions.push_back(index_t(chance() % 100000));
      flags.push_back(std::uint8_t(chance()));
      odd.push_back({{std::uint8_t(chance()), std::uint8_t(chance()), std::uint8_t(chance())}});
    }
  }
  [[nodiscard]] bool operator==(const side_memory& o) const {
    return positions == o.positions && flags == o.flags && same(odd, o.odd);
  }
};

/// f(what is stored, in every layout that owns its memory).
template <class E, class F>
void in_every_layout(const host::content<E>& c, const F& f) {
  f(host::in_strides(c, "hnd", hnd));
  f(host::in_strides(c, "nhd", nhd));
  f(host::with_transposed_keys(c));
  f(host::in_flat(c));
  f(host::in_pages(c, host::page_order::nhd));
  f(host::in_pages(c, host::page_order::hnd));
  f(host::in_pages(c, host::page_order::per_layer));
  f(host::in_pages(c, host::page_order::per_row));
}

/// f(content, chance, seed) for contents of every kind of piece: dims that are whole 16-byte pieces, 4-byte ones, and
/// neither.
template <class F>
void for_contents(const F& f) {
  const auto of = [&]<class E>(E) {
    std::uint32_t seed = sizeof(E);
    for (const auto& dims : {std::pair<index_t, index_t>{32, 8}, {16, 6}, {7, 64}, {1, 48}, {60, 3}}) {
      std::mt19937 chance(++seed);
      const cache_shape shape{.layers = 2, .seqs = 2, .kv_heads = 2};
      const host::content<E> c(shape, {index_t(20 + chance() % 60), index_t(1 + chance() % 40)}, dims.first,
                               dims.second, 1, seed);
      CAPTURE(dims.first);
      CAPTURE(sizeof(E));
      f(c, chance, seed);
    }
  };
  of(float{});
  of(bfloat16{});
}

[[nodiscard]] int threads_of(std::mt19937& chance) { return 32 << chance() % 4; }

}  // namespace

TEST_CASE("kernels: gather leaves the CPU's bytes, any layout to any layout") {
  for_contents([](const auto& c, std::mt19937& chance, std::uint32_t seed) {
    in_every_layout(c, [&](auto from) {
      in_every_layout(c, [&](auto to) {
        if (chance() % 3 != 0) return;
        CAPTURE(from.name);
        CAPTURE(to.name);
        some_kept kept(c.lengths, chance);
        std::memset(static_cast<void*>(to.keys.data()), 0x5a, to.keys.size() * sizeof(to.keys[0]));
        std::memset(static_cast<void*>(to.values.data()), 0x5a, to.values.size() * sizeof(to.values[0]));
        const side_memory s(c.shape, c.most, seed);
        side_memory wanted(c.shape, c.most + 3, seed + 1), got = wanted;
        const auto call = [&](side_memory& out, const auto& f) {
          f(side(s.positions.data(), s.layout, out.positions.data(), out.layout),
            side(s.flags.data(), s.layout, out.flags.data(), out.layout),
            side(s.odd.data(), s.layout, out.odd.data(), out.layout));
        };
        call(got, [&](const auto&... sides) {
          simulated_gather(from.cache(), kept.moves(), to.cache(), threads_of(chance), 1 + index_t(chance() % 3), seed,
                           sides...);
        });
        const auto keys = to.keys, values = to.values;
        std::memset(static_cast<void*>(to.keys.data()), 0x5a, to.keys.size() * sizeof(to.keys[0]));
        std::memset(static_cast<void*>(to.values.data()), 0x5a, to.values.size() * sizeof(to.values[0]));
        call(wanted, [&](const auto&... sides) {
          REQUIRE(gather(cpu{}, from.cache(), kept.view(), to.cache(), sides...).ok());
        });
        REQUIRE(same(keys, to.keys));
        REQUIRE(same(values, to.values));
        REQUIRE(got == wanted);
      });
    });
  });
}

TEST_CASE("kernels: compaction in place leaves the CPU's bytes") {
  for_contents([](const auto& c, std::mt19937& chance, std::uint32_t seed) {
    in_every_layout(c, [&](auto memory) {
      for (int round = 0; round < 3; ++round) {
        CAPTURE(memory.name);
        some_kept kept(c.lengths, chance);
        side_memory wanted(c.shape, c.most, seed), got = wanted;
        const auto call = [](side_memory& s, const auto& f) {
          f(side(s.positions.data(), s.layout), side(s.flags.data(), s.layout), side(s.odd.data(), s.layout));
        };
        const auto before = memory.keys, before_values = memory.values;
        call(got, [&](const auto&... sides) {
          simulated_in_place(memory.cache(), kept.moves(), threads_of(chance), 1 + index_t(chance() % 8),
                             seed + std::uint32_t(round), sides...);
        });
        const auto keys = memory.keys, values = memory.values;
        memory.keys = before;
        memory.values = before_values;
        call(wanted, [&](const auto&... sides) {
          REQUIRE(compact_in_place(cpu{}, memory.cache(), kept.view(), sides...).ok());
        });
        REQUIRE(same(keys, memory.keys));
        REQUIRE(same(values, memory.values));
        REQUIRE(got == wanted);
        memory.keys = before;
        memory.values = before_values;
      }
    });
  });
}

TEST_CASE("kernels: swap-fill makes the CPU's moves and leaves its order") {
  for_contents([](const auto& c, std::mt19937& chance, std::uint32_t seed) {
    host::in_any_order memory(c);
    for (int round = 0; round < 6; ++round) {
      auto copy = memory;
      some_kept kept(c.lengths, chance);
      side_memory wanted(c.shape, c.most, seed), got = wanted;
      simulated_swap_fill(copy.physical(), copy.order(), kept.moves(), threads_of(chance), 1 + index_t(chance() % 3),
                          seed, side(got.positions.data(), got.layout), side(got.odd.data(), got.layout));
      auto expected = memory;
      REQUIRE(swap_fill(cpu{}, expected.physical(), expected.order(), kept.view(),
                        side(wanted.positions.data(), wanted.layout), side(wanted.odd.data(), wanted.layout))
                  .ok());
      REQUIRE(same(copy.memory.keys, expected.memory.keys));
      REQUIRE(same(copy.memory.values, expected.memory.values));
      for (index_t r = 0; r < c.shape.rows(); ++r)  // behind what is retained, an order means nothing
        for (index_t k = 0; k < kept.view()[r].size(); ++k)
          REQUIRE(copy.order()(c.shape.row(r), k) == expected.order()(c.shape.row(r), k));
      REQUIRE(got == wanted);
    }
  });
}

TEST_CASE("kernels: 16 bytes at a time only where every entry starts at such a place") {
  alignas(16) float memory[256] = {};
  const auto width = [](const auto& from, const auto& to) {
    return detail::deal(from, to, dense_dims(from) && dense_dims(to), 1).piece_dims;
  };
  const auto at = [&](float* data, const auto& layout, index_t dims) { return entries{data, layout, dims}; };
  const auto good = at(memory, hnd(1, 2, 8, 8), 8);
  CHECK(width(good, good) == 4);
  CHECK(width(good, at(memory + 1, hnd(1, 2, 8, 8), 8)) == 1);
  CHECK(width(good, at(memory, strided{.head = 66, .slot = 8}, 8)) == 1);
  CHECK(width(good, at(memory, strided{.slot = 8, .dim = 2}, 8)) == 1);
  CHECK(width(at(memory, hnd(1, 2, 8, 6), 6), at(memory, hnd(1, 2, 8, 6), 6)) == 1);
  const offset_t offsets[] = {0, 3, 8};
  CHECK(width(good, at(memory, flat{offsets, 8}, 8)) == 4);
  const index_t table[] = {0, 1};
  CHECK(width(good, at(memory, paged_hnd(table, 2, 4, 2, 8, 2), 8)) == 4);
  CHECK(width(good, at(memory, reordered<strided>{hnd(1, 2, 8, 8), {}}, 8)) == 4);

  // 256 bytes are half a warp's; where dims are apart, neighbouring threads take neighbouring slots.
  const auto wide = at(memory, hnd(1, 1, 4, 64), 64);
  CHECK(detail::deal(wide, wide, true, 1).lanes() == 16);
  CHECK(detail::deal(wide, wide, true, 2).parts() == 2);
  CHECK(detail::deal(wide, wide, true, 100).parts() == 4);
  CHECK(detail::deal(wide, wide, false, 1).lanes() == 1);
}

TEST_CASE("kernels: rows without room do not move, and keep their lengths") {
  // Three rows of three slots; the selection has room for the first alone, the target for two slots of it.
  std::vector<float> keys{0, 1, 2, 10, 11, 12, 20, 21, 22};
  const auto before = keys;
  std::vector<index_t> slots{1, 2, 0};
  std::vector<offset_t> offsets{0, 2, 4, 6};
  const cache_shape shape{.kv_heads = 3};
  const key_cache c{shape, 3, entries{keys.data(), hnd(1, 3, 3, 1), 1}};
  const detail::row_moves kept{.slots = slots.data(), .room = 3, .offsets = offsets.data()};
  simulated_in_place(c, kept, 32, 1, 1);
  CHECK(keys == std::vector<float>{1, 2, 2, 10, 11, 12, 20, 21, 22});

  std::vector<index_t> lengths{3, 3, 3};
  simulated::run_grid(1, 32, 0, 1, [&](simulated::block& b) { detail::write_lengths(b, kept, 3, lengths.data()); });
  CHECK(lengths == std::vector<index_t>{2, 3, 3});

  keys = before;
  std::vector<float> target(9, -1.F);
  std::vector<offset_t> rooms{0, 1, 2, 3};
  simulated_gather(c, kept, key_cache{shape, 0, entries{target.data(), flat{rooms.data(), 1}, 1}}, 32, 1, 1);
  CHECK(target == std::vector<float>(9, -1.F));
  rooms = {0, 2, 4, 6};
  simulated_gather(c, kept, key_cache{shape, 0, entries{target.data(), flat{rooms.data(), 1}, 1}}, 32, 2, 1);
  CHECK(target == std::vector<float>{1, 2, -1, -1, -1, -1, -1, -1, -1});

  std::vector<index_t> order{0, 1, 2, 2, 1, 0, 1, 0, 2};
  const auto unchanged = order;
  simulated_swap_fill(c, token_order{order.data(), hnd(1, 3, 3, 1)}, kept, 32, 1, 1);
  CHECK(keys == std::vector<float>{2, 1, 2, 10, 11, 12, 20, 21, 22});
  CHECK(order == std::vector<index_t>{1, 0, 2, 2, 1, 0, 1, 0, 2});
  CHECK(std::equal(order.begin() + 3, order.end(), unchanged.begin() + 3));
}

TEST_CASE("the simulation notices a barrier that a compaction lacks, and blocks in each other's way") {
  // `compact_rows` on a block whose barriers do nothing.
  struct careless : simulated::block {
    using simulated::block::block;
    void sync() {}
  };
  std::vector<float> keys(64);
  std::vector<index_t> slots(63);
  std::iota(slots.begin(), slots.end(), 1);
  std::vector<offset_t> offsets{0, 63};
  const key_cache c{cache_shape{}, 64, entries{keys.data(), hnd(1, 1, 64, 1), 1}};
  const detail::row_moves kept{.slots = slots.data(), .room = 63, .offsets = offsets.data()};
  const auto task = in_place(c.shape(), kept, detail::moved_within(c, 1));
  careless b(0, 32, 0, 1);
  CHECK_THROWS_AS(detail::compact_rows(b, task), simulated::hazard);
  // `gather_rows` into its own source, by two blocks.
  CHECK_THROWS_AS(simulated_gather(c, kept, c, 32, 1, 1), simulated::hazard);
  simulated::places of_grid;
  simulated::block first(0, 32, 0, 1, nullptr, 0, 1, &of_grid), second(1, 32, 0, 1, nullptr, 0, 1, &of_grid);
  first.store(0, keys.data(), 1.F);
  CHECK_THROWS_AS(static_cast<void>(second.load<float>(0, keys.data())), simulated::hazard);
  CHECK_THROWS_AS(second.store(0, keys.data(), 1.F), simulated::hazard);
}
