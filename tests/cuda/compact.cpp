// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include <kvevict/cpu.hpp>
#include <kvevict/cuda/compact/gather.hpp>
#include <kvevict/cuda/compact/in_place.hpp>
#include <kvevict/cuda/compact/rotate.hpp>
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
                index_t shares, std::uint32_t seed, bool swaps = false) {
  const detail::gather_task<Moved> task{shape, kept, moved, shares, swaps};
  simulated::run_grid(index_t(task.blocks()), threads, detail::turn_table_bytes(moved), seed,
                      [&](simulated::block& b) { detail::gather_rows(b, task); });
}
template <class Moved>
[[nodiscard]] detail::in_place_task<Moved> in_place(const cache_shape& shape, const detail::row_moves& kept,
                                                    const Moved& moved) {
  return {shape, kept, moved};
}

/// The kernels in the order in which the entry points launch them.
template <class From, class To, class... Sides>
void simulated_gather(const From& from, const detail::row_moves& kept, const To& to, int threads, index_t shares,
                      std::uint32_t seed, const Sides&... sides) {
  run_gather(from.shape(), kept, detail::moved_between(from, to, sides...), threads, shares, seed);
}
template <class Cache, class... Sides>
void simulated_in_place(const Cache& cache, const detail::row_moves& kept, int threads, index_t parts,
                        std::uint32_t seed, const Sides&... sides) {
  const auto task = in_place(cache.shape(), kept, detail::moved_within(cache, parts, sides...));
  simulated::run_grid(index_t(task.blocks()), threads, detail::turn_table_bytes(task.moved), seed,
                      [&](simulated::block& b) { detail::compact_rows(b, task); });
}
template <class Cache, class... Sides>
void simulated_swap_fill(const Cache& cache, const token_order& order, const detail::row_moves& kept, int threads,
                         index_t shares, std::uint32_t seed, const Sides&... sides) {
  constexpr bool turns = (false || ... || detail::turns_keys<Sides>);
  carver count;
  detail::swap_memory::take(count, kept.room, cache.shape().rows(), turns);
  host::scratch memory(count.bytes());
  carver place(memory.get().data);
  const auto m = detail::swap_memory::take(place, kept.room, cache.shape().rows(), turns);
  const detail::swap_task<Cache> plan{cache, order, kept, m};
  simulated::run_grid(index_t(cache.shape().rows()), threads, detail::plan_swaps_bytes, seed,
                      [&](simulated::block& b) { detail::plan_swaps(b, plan); });
  run_gather(cache.shape(), detail::planned(kept, m), detail::moved_within(cache, 1, sides...), threads, shares, seed,
             true);
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

[[nodiscard]] int threads_of(std::mt19937& chance) { return simulated::threads_of(std::uint32_t(chance())); }

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
        const bool flags_stay = chance() % 2 == 0;
        const auto call = [&](side_memory& out, const auto& f) {
          const auto flags = flags_stay ? side(out.flags.data(), out.layout)
                                        : side(s.flags.data(), s.layout, out.flags.data(), out.layout);
          f(side(s.positions.data(), s.layout, out.positions.data(), out.layout), flags,
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
      for (index_t r = 0; r < c.shape.rows(); ++r)  // behind what is retained too, for slots to come
        for (index_t k = 0; k < c.lengths[std::size_t(r)]; ++k)
          REQUIRE(copy.order()(c.shape.row(r), k) == expected.order()(c.shape.row(r), k));
      REQUIRE(got == wanted);
    }
  });
}

TEST_CASE("kernels: swap-fill of a row that is planned in several stretches") {
  std::mt19937 chance(11);
  const host::content<bfloat16> c({.kv_heads = 1}, {70000}, 1, 1, 1, 3);
  host::in_any_order memory(c);
  some_kept kept(c.lengths, chance);
  auto copy = memory, expected = memory;
  simulated_swap_fill(copy.physical(), copy.order(), kept.moves(), 256, 1, 5);
  REQUIRE(swap_fill(cpu{}, expected.physical(), expected.order(), kept.view()).ok());
  REQUIRE(same(copy.memory.keys, expected.memory.keys));
  for (index_t k = 0; k < 70000; ++k) REQUIRE(copy.order()({}, k) == expected.order()({}, k));
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

namespace {

template <class Cache>
void simulated_rotate(const Cache& cache, const rope& embedding, const position_view& from, const position_view& to,
                      int threads, index_t shares, std::uint32_t seed) {
  const auto keys = detail::deal(cache.keys(), detail::own_memory{}, dense_dims(cache.keys()), 1,
                                 detail::key_turn{{embedding, from, to}});
  const detail::rotate_task<Cache, std::remove_const_t<decltype(keys)>> task{cache, {keys, {}}, shares};
  simulated::run_grid(index_t(task.blocks()), threads, detail::turn_table_bytes(task.keys), seed,
                      [&](simulated::block& b) { detail::rotate_rows(b, task); });
}

/// Embeddings of keys of `dims`: both kinds of pairs, all dims or some, plain RoPE frequencies and others.
struct embedding_of {
  std::vector<double> frequencies;
  rope embedding;
  embedding_of(index_t dims, std::mt19937& chance) {
    const index_t most = dims / 2, pairs = chance() % 2 == 0 ? most : 1 + index_t(chance() % unsigned(most));
    const double theta = chance() % 2 == 0 ? 10000 : 500000, factor = chance() % 3 == 0 ? -0.25 : 1;
    for (index_t i = 0; i < pairs; ++i) frequencies.push_back(factor * std::pow(theta, -double(i) / pairs));
    embedding = {frequencies.data(), 2 * pairs, chance() % 2 == 0 ? rope_pairs::half_split : rope_pairs::interleaved};
  }
  embedding_of(const embedding_of&) = delete;
};

/// Positions of every slot, [rows][room]: ascending, some of them far.
struct positions_of {
  std::vector<index_t> numbers;
  position_view view;
  positions_of(const cache_shape& shape, index_t room, std::mt19937& chance, unsigned step) {
    for (offset_t r = 0; r < shape.rows(); ++r) {
      index_t position = index_t(chance() % (step * 1000));
      for (index_t j = 0; j < room; ++j) numbers.push_back(position += 1 + index_t(chance() % step));
    }
    view = {numbers.data(), hnd(shape.seqs, shape.kv_heads, room, 1)};
  }
  positions_of(const positions_of&) = delete;
};

/// The keys of a row as doubles, turned in double by so many positions.
[[nodiscard]] std::vector<double> turned(std::vector<double> key, const rope& how, offset_t distance) {
  const index_t pairs = how.rotary_dims / 2;
  for (index_t i = 0; i < pairs; ++i) {
    const bool split = how.pairs == rope_pairs::half_split;
    double &x = key[std::size_t(split ? i : 2 * i)], &y = key[std::size_t(split ? i + pairs : 2 * i + 1)];
    const double angle = double(distance) * how.frequencies[i], u = x, v = y;
    x = u * std::cos(angle) - v * std::sin(angle);
    y = u * std::sin(angle) + v * std::cos(angle);
  }
  return key;
}
template <class Keys>
[[nodiscard]] std::vector<double> key_of(const Keys& keys, const row_id& row, index_t slot) {
  std::vector<double> out;
  for (index_t d = 0; d < keys.dims(); ++d) out.push_back(keys(row, slot, d));
  return out;
}

/// The element's own rounding, and 1e-6 of the key.
template <class E>
void check_close(const std::vector<double>& got, const std::vector<double>& expected) {
  double error = 0, size = 1e-30;
  for (std::size_t d = 0; d < got.size(); ++d) {
    error += std::pow(got[d] - expected[d], 2);
    size += std::pow(expected[d], 2);
  }
  REQUIRE(std::sqrt(error / size) <= 1e-6 + (sizeof(E) == 4 ? 0 : std::is_same_v<E, half> ? 0x1p-11 : 0x1p-8));
}

}  // namespace

TEST_CASE("kernels: angles stay exact however far the position is") {
  std::mt19937 chance(3);
  for (int round = 0; round < 20000; ++round) {
    const double frequency = std::exp(-double(chance() % 1000) / 60) * (chance() % 4 == 0 ? -1 : 1);
    const offset_t far[] = {1000, 1000000, 1000000000, 0x7fffffff};
    const offset_t p = offset_t(chance()) % far[chance() % 4] * (chance() % 2 == 0 ? -1 : 1);
    const auto by = detail::factors_of(std::uint64_t(p) * detail::turn_fraction(frequency));
    const long double angle = static_cast<long double>(p) * frequency;
    REQUIRE(std::abs(by.cosine - double(std::cos(angle))) <= 1e-7);
    REQUIRE(std::abs(by.sine - double(std::sin(angle))) <= 1e-7);
  }
  const auto none = detail::factors_of(0);
  CHECK(none.cosine == 1);
  CHECK(none.sine == 0);
}

namespace {

/// Every retained entry of a row of the content, in the cache where it has come to: its key as turned in double by what
/// the positions say, its value as it was.
template <class E, class Cache, class Place>
void check_turned(const host::content<E>& c, const selection& kept, const turned_keys& how, const Cache& after,
                  const Place& place) {
  for (index_t r = 0; r < c.shape.rows(); ++r) {
    const row_id row = c.shape.row(r);
    for (index_t k = 0; k < kept[r].size(); ++k) {
      const index_t source = kept[r][k];
      const auto first = c.keys[std::size_t(r)].begin() + std::ptrdiff_t(source) * c.dim;
      std::vector<double> was;
      std::transform(first, first + c.dim, std::back_inserter(was), [](E x) { return double(to_float(x)); });
      const offset_t distance = how.distance(row, source, k);
      const std::vector<double> is = key_of(after.keys(), row, place(row, k));
      check_close<E>(is, turned(was, how.embedding, distance));
      for (index_t d = distance == 0 ? 0 : how.embedding.rotary_dims; d < c.dim; ++d)
        REQUIRE(is[std::size_t(d)] == was[std::size_t(d)]);
      for (index_t d = 0; d < c.value_dim; ++d)
        REQUIRE(host::same_bits<E>(*after.values().at(row, place(row, k), d),
                                   c.values[std::size_t(r)][std::size_t(source * c.value_dim + d)]));
    }
  }
}
const auto same_place = [](const row_id&, index_t k) { return k; };

/// f(embedding and positions): none, so that slots are positions; some that stay; far ones.
template <class E, class F>
void for_turns(const host::content<E>& c, std::mt19937& chance, const F& f) {
  if (c.dim < 2) return;
  const embedding_of e(c.dim, chance);
  const positions_of from(c.shape, c.most, chance, 40000), to(c.shape, c.most, chance, 3);
  f(turned_keys{e.embedding});
  f(turned_keys{e.embedding, from.view, chance() % 2 == 0 ? from.view : to.view});
  f(turned_keys{e.embedding, {}, to.view});
}

}  // namespace

TEST_CASE("kernels: keys turn as in double, in every layout, and what does not turn keeps its bytes") {
  for_contents([]<class E>(const host::content<E>& c, std::mt19937& chance, std::uint32_t seed) {
    host::kept whole;  // every slot of every row
    whole.offsets = {0};
    for (const index_t n : c.lengths) {
      for (index_t s = 0; s < n; ++s) whole.slots.push_back(s);
      whole.offsets.push_back(offset_t(whole.slots.size()));
    }
    for_turns(c, chance, [&](const turned_keys& how) {
      if (how.from.data == nullptr || how.to.data == nullptr) return;  // `rotate_keys` wants both
      in_every_layout(c, [&](auto memory) {
        CAPTURE(memory.name);
        simulated_rotate(memory.cache(), how.embedding, how.from, how.to, threads_of(chance), 1 + index_t(chance() % 3),
                         seed);
        check_turned(c, whole.view(), how, memory.cache(), same_place);
      });
    });
  });
}

TEST_CASE("kernels: keys turn while they move, and all else moves as without") {
  for_contents([]<class E>(const host::content<E>& c, std::mt19937& chance, std::uint32_t seed) {
    for_turns(c, chance, [&](const turned_keys& how) {
      some_kept kept(c.lengths, chance);
      side_memory plain(c.shape, c.most, seed), along = plain;
      const auto compacted = [](side_memory& s) { return side(s.positions.data(), s.layout); };
      in_every_layout(c, [&](auto memory) {
        CAPTURE(memory.name);
        auto target = host::in_pages(c, host::page_order::nhd, 7);
        simulated_gather(memory.cache(), kept.moves(), target.cache(), threads_of(chance), 1 + index_t(chance() % 3),
                         seed, how);
        check_turned(c, kept.view(), how, target.cache(), same_place);
        along = plain;
        simulated_in_place(memory.cache(), kept.moves(), threads_of(chance), 1 + index_t(chance() % 8), seed,
                           compacted(along), how);
        check_turned(c, kept.view(), how, memory.cache(), same_place);
      });
      auto memory = host::in_strides(c, "hnd", hnd);
      REQUIRE(compact_in_place(cpu{}, memory.cache(), kept.view(), compacted(plain)).ok());
      REQUIRE(along == plain);

      host::in_any_order swapped(c), expected(c);
      side_memory s(c.shape, c.most + 3, seed), wanted = s;
      simulated_swap_fill(swapped.physical(), swapped.order(), kept.moves(), threads_of(chance),
                          1 + index_t(chance() % 3), seed, how, compacted(s));
      check_turned(c, kept.view(), how, swapped.physical(),
                   [&](const row_id& row, index_t k) { return swapped.order()(row, k); });
      REQUIRE(swap_fill(cpu{}, expected.physical(), expected.order(), kept.view(), compacted(wanted)).ok());
      REQUIRE(same(swapped.memory.values, expected.memory.values));
      REQUIRE(s == wanted);
    });
  });
}
