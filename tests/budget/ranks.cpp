// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include <barrier>
#include <functional>
#include <string>
#include <thread>

#include "../support/oracle.hpp"

using namespace kvevict;

namespace {

/// An all-reduce between threads: the last to arrive adds up, then everybody copies the sums.
class thread_sums {
 public:
  explicit thread_sums(int ranks) : parts_(std::size_t(ranks)), arrive_(ranks), leave_(ranks) {}
  int rounds = 0;
  std::int64_t numbers = 0;

  void sum(int rank, const span<std::int64_t>& values) {
    parts_[std::size_t(rank)] = values;
    arrive_.arrive_and_wait();
    std::vector<std::int64_t> total(std::size_t(values.size()), 0);
    for (const auto& part : parts_)
      for (std::size_t i = 0; i < total.size(); ++i) total[i] += part[offset_t(i)];
    if (rank == 0) {
      ++rounds;
      numbers += values.size();
    }
    leave_.arrive_and_wait();
    std::copy(total.begin(), total.end(), values.begin());
    leave_.arrive_and_wait();
  }

 private:
  std::vector<span<std::int64_t>> parts_;
  std::barrier<> arrive_, leave_;
};

struct on_rank {
  thread_sums* with;
  int rank;
  bool works = true;
  bool operator()(const span<std::int64_t>& values) const {
    with->sum(rank, values);
    return works;
  }
};

constexpr index_t kv_heads = 4, group = 2, dim = 8, value_dim = 4, layers = 2;

/// The heads first .. first + heads of a problem, as a rank holds them: two layers, the second with other keys.
struct part {
  index_t first, heads, length;
  std::vector<float> keys, values, queries;

  part(const host::problem& a, const host::problem& b, index_t from, index_t count)
      : first(from), heads(count), length(a.length) {
    for (const host::problem* p : {&a, &b}) {
      const auto take = [&](std::vector<float>& to, const std::vector<float>& of, index_t per_head) {
        to.insert(to.end(), of.begin() + offset_t{first} * per_head, of.begin() + offset_t{first + heads} * per_head);
      };
      take(keys, p->keys, length * dim);
      take(values, p->values, length * value_dim);
      take(queries, p->queries, group * p->rows * dim);
    }
  }
  [[nodiscard]] auto cache() const {
    return kvevict::cache{cache_shape{layers, 1, heads}, length, entries{keys.data(), hnd(1, heads, length, dim), dim},
                          entries{values.data(), hnd(1, heads, length, value_dim), value_dim}};
  }
  [[nodiscard]] auto rows(index_t count) const {
    return query_view{entries{queries.data(), hnd(1, heads * group, count, dim), dim}, heads * group, count};
  }
};

template <class Policy>
void same_on_ranks(const Policy& policy) {
  constexpr index_t length = 700;
  const host::problem a(kv_heads, group, length, dim, value_dim, length, 3),
      b(kv_heads, group, length, dim, value_dim, length, 8);
  const part all(a, b, 0, kv_heads);
  host::kept alone = host::evict(policy, inputs{all.cache(), all.rows(length)});
  REQUIRE(alone.status.ok());
  const auto expected = alone.rows();
  for (const std::vector<index_t>& split : {std::vector<index_t>{4}, {2, 2}, {1, 1, 1, 1}, {3, 1}}) {
    const int ranks = int(split.size());
    CAPTURE(ranks);
    thread_sums sums(ranks);
    std::vector<host::kept> got(split.size());
    std::vector<std::thread> threads;
    for (int rank = 0, first = 0; rank < ranks; first += split[std::size_t(rank++)])
      threads.emplace_back([&, rank, first] {
        const part mine(a, b, first, split[std::size_t(rank)]);
        got[std::size_t(rank)] = host::evict(
            policy, inputs{mine.cache(), mine.rows(length), rank_view{first, kv_heads, on_rank{&sums, rank}}});
      });
    for (std::thread& t : threads) t.join();
    constexpr bool joint = decltype(policy.rule())::joint;
    CHECK(sums.rounds == (joint ? 6 : 1));
    CHECK(sums.numbers == (joint ? 1 + layers * (4 * 259 + 5 * kv_heads) : 1));
    for (int rank = 0, first = 0; rank < ranks; first += split[std::size_t(rank++)]) {
      REQUIRE(got[std::size_t(rank)].status.ok());
      const auto rows = got[std::size_t(rank)].rows();
      for (index_t layer = 0; layer < layers; ++layer)
        for (index_t h = 0; h < split[std::size_t(rank)]; ++h)
          CHECK(rows[std::size_t(layer * split[std::size_t(rank)] + h)] ==
                expected[std::size_t(layer * kv_heads + first + h)]);
    }
  }
}

}  // namespace

TEST_CASE("several ranks keep what one process keeps, in a fixed number of rounds") {
  const amount b = slots(90);
  same_on_ranks(adakv{snapkv<>{.budget = b, .window = 16}});  // maximum pooling: many ties
  same_on_ranks(adakv{snapkv<>{.budget = b, .window = 16}, 0.5, budget::safeguard::minimum});
  same_on_ranks(adakv{ahakv<>{.budget = b, .window = 16}, 0.0});
  same_on_ranks(adakv{h2o{.budget = b, .sinks = 3}, 1.0, budget::safeguard::minimum});
  same_on_ranks(adakv{knorm{.budget = slots(2000)}});  // everything stays
  same_on_ranks(adakv{kvevict::random{.budget = b, .seed = 4}});
  same_on_ranks(ahakv<>{.budget = b, .window = 16});
  same_on_ranks(nacl{.budget = b, .window = 16});
}

TEST_CASE("where one rank refuses or the all-reduce fails, all return an error and write nothing") {
  constexpr index_t length = 40;
  const host::problem a(kv_heads, group, length, dim, value_dim, length);
  const adakv policy{knorm{.budget = slots(10)}};
  const auto together =
      [&](const std::function<status(int, const part&, const selection&, const workspace&, on_rank)>& call) {
        thread_sums sums(2);
        std::vector<std::string> said(2);
        std::vector<std::thread> threads;
        for (int rank = 0; rank < 2; ++rank)
          threads.emplace_back([&, rank] {
            const part mine(a, a, 2 * rank, 2);
            std::vector<index_t> slots_of(std::size_t(4 * length), -7);
            std::vector<offset_t> offsets(5, -7);
            host::scratch memory(1 << 20);
            const status s = call(rank, mine, {slots_of, offsets}, memory.get(), {&sums, rank});
            said[std::size_t(rank)] = std::string(s.argument) + ": " + s.sentence;
            if (!s.ok()) {
              CHECK(slots_of == std::vector<index_t>(std::size_t(4 * length), -7));
              CHECK(offsets == std::vector<offset_t>(5, -7));
            }
          });
        for (std::thread& t : threads) t.join();
        return said;
      };
  auto said = together([&](int rank, const part& p, const selection& out, const workspace& memory, on_rank sum) {
    return evict(cpu{}, policy, inputs{p.cache(), rank_view{2 * rank, kv_heads, sum}}, out,
                 rank == 1 ? workspace{} : memory);
  });
  CHECK(said[0] == "ranks: another rank refused its part of the call");
  CHECK(said[1].starts_with("workspace: "));
  said = together([&](int rank, const part& p, const selection& out, const workspace& memory, on_rank sum) {
    return evict(cpu{}, policy, inputs{p.cache(), rank_view{3 * rank, kv_heads, sum}}, out, memory);
  });
  CHECK(said[1].starts_with("ranks: the kv_heads of the cache"));
  said = together([&](int rank, const part& p, const selection& out, const workspace& memory, on_rank sum) {
    sum.works = false;
    return evict(cpu{}, policy, inputs{p.cache(), rank_view{2 * rank, kv_heads, sum}}, out, memory);
  });
  CHECK(said[0] == "ranks: the all-reduce failed");
}
