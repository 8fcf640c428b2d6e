// SPDX-License-Identifier: MIT
#include "on_device_compact.hpp"

#include <doctest/doctest.h>

#include "on_device_expected.hpp"

using namespace kvevict;
using namespace on_device;

namespace {

/// A random set of slots of every row: of some rows all, of some one.
kept_slots some_kept(const std::vector<index_t>& lengths, std::mt19937& chance) {
  kept_slots kept{{0}, {}};
  for (const index_t length : lengths) {
    const auto kind = chance() % 6, share = 1 + chance() % 9;
    for (index_t j = 0; j < length; ++j)
      if (kind == 0 || (kind == 1 ? j == length - 1 : chance() % 10 < share || j == length / 2))
        kept.slots.push_back(j);
    kept.offsets.push_back(offset_t(kept.slots.size()));
  }
  return kept;
}

sides some_sides(const cache_shape& shape, index_t room, std::mt19937& chance) {
  sides s{hnd(shape.seqs, shape.kv_heads, room, 1), {}, {}};
  for (offset_t i = 0; i < shape.rows() * room; ++i) {
    s.words.push_back(index_t(chance() % 100000));
    s.odd.push_back({std::uint8_t(chance()), std::uint8_t(chance()), std::uint8_t(chance())});
  }
  return s;
}

template <class T>
[[nodiscard]] bool same(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

/// What moves, and what the CPU leaves of it.
template <class E>
struct compaction {
  host::content<E> content;
  std::mt19937 chance;
  kept_slots kept;
  sides before;

  compaction(index_t dim, index_t value_dim, unsigned seed)
      : content({.layers = 2, .seqs = 2, .kv_heads = 3}, {light() ? 150 : 1200, 70}, dim, value_dim, 1, seed),
        chance(seed),
        kept(some_kept(content.lengths, chance)),
        before(some_sides(content.shape, content.most + 3, chance)) {}

  [[nodiscard]] selection view() { return {kept.slots, kept.offsets}; }

  /// `got` against what `call(sides...)` does to `memory` on the CPU.
  template <class Stored, class Call>
  void check(const compacted<E>& got, Stored& memory, const Call& call) {
    CAPTURE(memory.name);
    CAPTURE(content.dim);
    CAPTURE(sizeof(E));
    REQUIRE(got.wrong == "");
    sides after = before;
    std::vector<index_t> lengths(content.lengths.size());
    REQUIRE(call(side(after.words.data(), after.layout), side(after.odd.data(), after.layout)).ok());
    retained_lengths(view(), lengths.data());
    REQUIRE(same(got.keys, memory.keys));
    REQUIRE(same(got.values, memory.values));
    REQUIRE(got.moved == after);
    REQUIRE(got.lengths == lengths);
  }
  template <class From, class To>
  void gathered(From from, To to) {
    const auto got = on_device::gather(from, to, kept, before, runs());
    check(got, to, [&](const auto&... s) { return kvevict::gather(cpu{}, from.cache(), view(), to.cache(), s...); });
  }
  template <class Stored>
  void in_place(Stored memory) {
    const auto got = on_device::compact_in_place(memory, kept, before, runs());
    check(got, memory,
          [&](const auto&... s) { return kvevict::compact_in_place(cpu{}, memory.cache(), view(), s...); });
  }
  template <class Stored>
  void swapped(Stored memory) {
    std::vector<index_t> order;
    for (const index_t n : content.lengths) {
      std::vector<index_t> places = host::scattered(n, n);
      places.resize(std::size_t(content.most + 3), -1);
      order.insert(order.end(), places.begin(), places.end());
    }
    const auto got = on_device::swap_fill(memory, order, kept, before, runs());
    const token_order by_token{order.data(), before.layout};
    check(got, memory,
          [&](const auto&... s) { return kvevict::swap_fill(cpu{}, memory.cache(), by_token, view(), s...); });
    for (index_t r = 0; r < content.shape.rows(); ++r)  // behind what is retained too, for slots to come
      for (index_t k = 0; k < content.lengths[std::size_t(r)]; ++k) {
        const auto at = std::size_t(before.layout.offset(content.shape.row(r), k, 0));
        REQUIRE(got.order[at] == order[at]);
      }
  }
};

}  // namespace

TEST_CASE("on the device: compaction leaves the CPU's bytes, and the lengths of what is left") {
  unsigned seed = 0;
  for (const auto& [dim, value_dim] : {std::pair<index_t, index_t>{128, 128}, {64, 24}, {60, 3}, {7, 80}}) {
    compaction<bfloat16> a(dim, value_dim, ++seed);
    const auto& c = a.content;
    a.gathered(host::in_strides(c, "hnd", hnd), host::in_flat(c));
    a.gathered(host::in_pages(c, host::page_order::nhd, 16), host::in_strides(c, "nhd", nhd));
    a.in_place(host::in_strides(c, "hnd", hnd));
    a.in_place(host::in_strides(c, "nhd", nhd));
    a.in_place(host::in_pages(c, host::page_order::hnd, 16));
    a.in_place(host::in_pages(c, host::page_order::per_row, 16));
    a.swapped(host::in_pages(c, host::page_order::per_row, 16));
    a.swapped(host::in_pages(c, host::page_order::nhd, 5));
    compaction<float> b(dim, value_dim, ++seed);
    const auto& d = b.content;
    b.gathered(host::in_strides(d, "hnd", hnd), host::in_strides(d, "nhd", nhd));
    b.gathered(host::in_flat(d), host::in_pages(d, host::page_order::per_layer, 16));
    b.in_place(host::with_transposed_keys(d));
    b.in_place(host::in_flat(d));
    b.swapped(host::in_strides(d, "nhd", nhd));
    b.swapped(host::with_transposed_keys(d));
  }
}
