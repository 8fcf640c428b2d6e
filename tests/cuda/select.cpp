// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include <kvevict/cpu.hpp>
#include <kvevict/cuda/select/pool.hpp>
#include <random>

#include "../support/simulated_block.hpp"

using namespace kvevict;

namespace {

/// Scores of rows of different length, some with many equal ones.
struct scored_rows {
  cache_shape shape;
  std::vector<offset_t> offsets;
  std::vector<float> scores;
  std::vector<index_t> pool_of_row;
  index_t pools = 0;
  std::size_t skipped = 0;  ///< floats before the first score

  scored_rows(const cache_shape& s, index_t longest, std::uint32_t seed) : shape(s), offsets{0}, skipped(seed / 2 % 4) {
    std::mt19937 chance(seed);
    const int kind = int(seed % 4);
    scores.assign(skipped, -7);
    if (seed % 5 > 1) {  // pools of the caller's own, some perhaps empty
      pools = index_t(1 + chance() % std::uint32_t(shape.rows() > 100 ? 2 : shape.rows()));
      for (index_t r = 0; r < shape.rows(); ++r) pool_of_row.push_back(index_t(chance() % std::uint32_t(pools)));
    }
    for (index_t r = 0; r < shape.rows(); ++r) {
      const auto length = index_t(1 + chance() % std::uint32_t(longest));
      offsets.push_back(offsets.back() + length);
      for (index_t j = 0; j < length; ++j) {
        const float u = float(chance() % 1000000) / 1e6F;
        scores.push_back(kind == 0   ? u
                         : kind == 1 ? std::floor(u * 5) - 2
                         : kind == 2 ? (seed % 8 == 6 ? NAN : 0.25F)
                                     : std::exp(-20 * u));
        if (kind == 1 && chance() % 9 == 0) scores.back() = chance() % 2 ? -0.0F : std::nanf("");
        if (kind == 3 && chance() % 50 == 0) scores.back() = chance() % 2 ? INFINITY : -INFINITY;
      }
    }
  }
  [[nodiscard]] row_scores view() const {
    return {shape,
            {scores.data() + skipped, offsets.data(), index_t(shape.rows())},
            {pools > 0 ? pool_of_row.data() : nullptr, pools},
            512};
  }
};

struct kept_slots {
  std::vector<index_t> slots;
  std::vector<offset_t> offsets;
  std::vector<row_receipt> receipts;
  explicit kept_slots(const scored_rows& in)
      : slots(in.scores.size() - in.skipped, -1),
        offsets(std::size_t(in.shape.rows() + 1), -1),
        receipts(std::size_t(in.shape.rows())) {}
};

template <class Policy>
bool cpu_select(const Policy& policy, const scored_rows& in, kept_slots& out) {
  std::vector<cache_line> scratch(cache_lines(workspace_bytes(cpu{}, policy, in.view())));
  return select(cpu{}, policy, in.view(), selection{out.slots, out.offsets, out.receipts}, workspace_of(scratch)).ok();
}

/// The kernels in the order in which the entry point launches them.
template <class Policy>
void simulated_select(const Policy& policy, const scored_rows& in, kept_slots& out, int threads, int team,
                      std::uint32_t seed, offset_t room = -1) {
  detail::select_task<decltype(policy.rule())> task{
      .rule = policy.rule(), .protection = policy.protection(), .shape = in.shape};
  task.scores = in.view().scores.data;
  task.score_offsets = in.offsets.data();
  task.pools = in.view().pools;
  task.slots = out.slots.data();
  task.slots_room = room < 0 ? offset_t(out.slots.size()) : room;
  task.offsets = out.offsets.data();
  task.receipts = out.receipts.data();
  task.entry_bytes = in.view().entry_bytes;
  constexpr index_t rooms[] = {0, 1, 40, 6000};  // keys in shared memory: none, a few, a short row's, a long one's
  task.key_fours = rooms[seed / 5 % 4];
  const offset_t bytes = detail::selection_memory_bytes + detail::key_list_bytes + detail::key_bytes(task.key_fours) +
                         detail::share_pool_bytes;
  const auto rows = index_t(in.shape.rows());
  std::vector<cache_line> scratch;
  if constexpr (decltype(policy.rule())::joint) {
    carver count;
    detail::share_memory::take(count, rows);
    scratch.resize(cache_lines(count.bytes()));
    std::memset(scratch.data(), 0xff, scratch.size() * sizeof(cache_line));
    carver place(workspace_of(scratch).data);
    const auto memory = detail::share_memory::take(place, rows);
    const bool alone = in.pools > 0 || seed % 4 == 0;
    task.reached = memory.reached;
    simulated::run_teams(
        in.pools > 0 ? in.pools : in.shape.layers * in.shape.seqs, team, threads, bytes, seed,
        {{memory.reached, detail::share_memory::reached_count(rows)}, {memory.budgets, rows}, {memory.limits, rows}},
        [&](simulated::block& b) { detail::select_pool(b, task, memory, alone); });
    if (!alone) return;
    task.budgets = memory.budgets;
    task.limits = memory.limits;
    simulated::run_grid(rows, threads, bytes, seed, [&](simulated::block& b) { detail::select_row(b, task); });
  } else {
    simulated::run_grid(rows, threads, bytes, seed, [&](simulated::block& b) { detail::select_row(b, task); });
  }
}

template <class Policy>
void check_same(const Policy& policy, const scored_rows& in, std::uint32_t seed) {
  kept_slots expected(in), got(in);
  if (!cpu_select(policy, in, expected)) return;  // a budget below what is protected
  const int threads = simulated::threads_of(seed), team = 1 + int(seed / 3 % 4);
  CAPTURE(seed);
  CAPTURE(threads);
  CAPTURE(team);
  simulated_select(policy, in, got, threads, team, seed);
  REQUIRE(got.offsets == expected.offsets);
  const auto used = std::ptrdiff_t(expected.offsets.back());
  REQUIRE(std::equal(expected.slots.begin(), expected.slots.begin() + used, got.slots.begin()));
  for (std::size_t r = 0; r < got.receipts.size(); ++r) {
    const row_receipt &a = got.receipts[r], &e = expected.receipts[r];
    REQUIRE(a.retained == e.retained);
    REQUIRE(a.evicted == e.evicted);
    REQUIRE(a.bytes_freed == e.bytes_freed);
    REQUIRE((a.threshold == e.threshold || (std::isnan(a.threshold) && std::isnan(e.threshold))));
    if (std::isnan(e.score_share))
      REQUIRE(std::isnan(a.score_share));
    else
      REQUIRE(a.score_share == doctest::Approx(e.score_share).epsilon(1e-6));
  }
}

template <class Policy>
void check_same(const Policy& policy, const cache_shape& shape, index_t longest, std::uint32_t seed) {
  check_same(policy, scored_rows(shape, longest, seed), seed);
}

}  // namespace

TEST_CASE("kernels: a selection is the CPU's, whatever the order of threads, blocks and teams") {
  for (std::uint32_t seed = 0; seed < 60; ++seed) {
    const cache_shape shape{.layers = index_t(1 + seed % 2), .seqs = index_t(1 + seed % 3), .kv_heads = 3};
    check_same(snapkv<>{.budget = percent(30), .recent = 4}, shape, 300, seed);
    check_same(streaming_llm{.budget = slots(20)}, shape, 90, seed);
    check_same(adakv{snapkv<>{.budget = percent(30), .recent = 4}}, shape, 300, seed);
    auto least_share = adakv{snapkv<>{.budget = percent(40), .recent = 2}};
    least_share.safeguard = budget::safeguard::minimum;
    least_share.floor = seed % 5 * 0.25;
    check_same(least_share, shape, 200, seed);
  }
}

TEST_CASE("kernels: rows of every short length, wherever they begin") {
  for (std::uint32_t seed = 0; seed < 120; ++seed) {
    check_same(snapkv<>{.budget = percent(35), .recent = index_t(seed % 3)}, {.kv_heads = 1}, index_t(1 + seed / 2),
               seed);
    check_same(adakv{knorm{.budget = percent(35)}}, {.kv_heads = index_t(1 + seed % 4)}, index_t(1 + seed / 2), seed);
  }
}

TEST_CASE("kernels: pools of many rows") {
  for (std::uint32_t seed = 0; seed < 10; ++seed) {
    const cache_shape shape{.layers = 2, .kv_heads = index_t(60 + 10 * seed)};
    check_same(adakv{snapkv<>{.budget = slots(16), .recent = 2}}, shape, 60, seed);
    check_same(adakv{knorm{.budget = percent(40)}, 0.25 * (seed % 5), budget::safeguard::minimum}, shape, 60, seed);
  }
}

TEST_CASE("kernels: the split of a pool is the CPU's") {
  std::mt19937 chance(9);
  const auto below = [&](index_t most) { return index_t(chance() % std::uint32_t(most)); };
  for (int run = 0; run < 400; ++run) {
    const index_t rows = 1 + below(run % 2 == 0 ? 300 : 12), most = run % 3 == 0 ? 5 : 2000;
    const auto kind = run % 5 == 0 ? budget::safeguard::minimum : budget::safeguard::mixture;
    const budget::adaptive rule{budget::uniform{}, below(5) * 0.25 * (run % 7 == 0 ? 1 : 0.99), kind};
    std::vector<detail::pool_counts> counts;
    offset_t certain = 0, free = 0, equal = 0;
    for (index_t r = 0; r < rows; ++r) {
      detail::pool_counts c{.above = below(most), .equal = below(most / 4 + 1)};
      c.room = c.above + c.equal + below(most) * (run % 4);  // full rows, where there is nothing else
      c.free_budget = below(2 * most);
      c.floor = kind == budget::safeguard::minimum ? std::min(below(most), c.room) : 0;
      counts.push_back(c);
      certain += std::max(c.floor, c.above);
      equal += std::max(0, c.above + c.equal - std::max(c.floor, c.above));
      free += c.room;
    }
    const offset_t total = std::min(free, certain + (equal > 0 ? offset_t(chance()) % (equal + 1) : 0));
    if (total < 1) continue;
    CAPTURE(run);
    const auto of = [&](index_t i) { return counts[std::size_t(i)]; };
    std::vector<index_t> expected(counts.size()), got(counts.size());
    std::vector<offset_t> remainder(counts.size());
    std::vector<float> remainders(counts.size());
    detail::split_pool(rule, rows, total, of, expected.data(), remainder.data());
    simulated::block b(0, simulated::threads_of(std::uint32_t(chance())), detail::selection_memory_bytes,
                       std::uint32_t(run));
    const auto shared = detail::selection_memory<simulated::block>::take(b);
    detail::split_pool(b, rule, rows, total, of, got.data(), remainders.data(), shared.digits, shared.sums);
    REQUIRE(got == expected);
  }
}

TEST_CASE("kernels: long rows, and digits that all scores share") {
  for (std::uint32_t seed = 0; seed < 8; ++seed) {
    check_same(snapkv<>{.budget = slots(1000)}, {.kv_heads = 2}, 20000, seed);
    check_same(adakv{snapkv<>{.budget = slots(1000)}}, {.kv_heads = 4}, 20000, seed);
  }
}

TEST_CASE("kernels: a row whose keys find no room in the list behind one whose keys did") {
  // Row 0 sets the joint threshold. The next two are cut where scores have the same first digit: a list holds those
  // of the shorter one, and not those of the longer.
  scored_rows in({.kv_heads = 3}, 1, 0);
  in.offsets = {0, 4000, 8000, 28000};
  std::mt19937 chance(1);
  in.scores.clear();
  for (offset_t j = 0; j < in.offsets.back(); ++j)
    in.scores.push_back(float(chance() % 1000000) / 1e6F + (j < in.offsets[1] ? 100.0F : 0.0F));
  for (std::uint32_t seed = 0; seed < 3; ++seed)  // teams of one block
    check_same(adakv{snapkv<>{.budget = slots(1000), .recent = 0}, 0.5}, in, seed);
}

TEST_CASE("kernels: rows that are written in several stretches") {
  for (std::uint32_t seed = 3; seed < 6; ++seed) {
    check_same(snapkv<>{.budget = percent(40)}, {.kv_heads = 1}, 90000, seed);
    check_same(adakv{snapkv<>{.budget = percent(10)}}, {.kv_heads = 2}, 60000, seed);
  }
}

TEST_CASE("kernels: rows whose budget is impossible are kept whole, and what has no room is not written") {
  for (std::uint32_t seed = 0; seed < 24; ++seed) {
    CAPTURE(seed);
    const scored_rows in({.layers = 2, .seqs = 2, .kv_heads = 3}, 60, seed);
    const auto whole = [&](const auto& policy) {  // 4 slots, of which 10 are protected
      kept_slots got(in);
      simulated_select(policy, in, got, simulated::threads_of(seed), 1 + int(seed / 3 % 3), seed);
      REQUIRE(got.offsets == in.offsets);
      for (std::size_t r = 0; r + 1 < in.offsets.size(); ++r)
        for (offset_t i = in.offsets[r]; i < in.offsets[r + 1]; ++i)
          REQUIRE(got.slots[std::size_t(i)] == i - in.offsets[r]);
    };
    whole(snapkv<>{.budget = slots(4), .recent = 10});
    whole(adakv{snapkv<>{.budget = slots(4), .recent = 10}});

    const adakv policy{snapkv<>{.budget = slots(20), .recent = 0}};
    kept_slots expected(in), got(in);
    REQUIRE(cpu_select(policy, in, expected));
    const offset_t room = expected.offsets[5];
    simulated_select(policy, in, got, simulated::threads_of(seed), 1 + int(seed / 3 % 3), seed, room);
    REQUIRE(got.offsets == expected.offsets);
    REQUIRE(std::equal(got.slots.begin(), got.slots.begin() + room, expected.slots.begin()));
    REQUIRE(std::all_of(got.slots.begin() + room, got.slots.end(), [](index_t slot) { return slot == -1; }));
  }
}

TEST_CASE("the simulation notices a missing barrier, an index outside, and what is read before it is written") {
  const auto failing = [](const auto& body) {
    simulated::block b(0, 64, 1024, 7);
    auto words = b.shared<index_t>(64);
    CHECK_THROWS_AS(body(b, words), simulated::hazard);
  };
  failing([](auto& b, auto& words) { b.each([&](int t) { static_cast<void>(words.load(t, t)); }); });
  failing([](auto& b, auto& words) { b.each([&](int t) { words.store(t, 64 + t, 1); }); });
  failing([](auto& b, auto& words) { b.each([&](int t) { words.store(t, 0, t); }); });
  failing([](auto& b, auto& words) {
    b.each([&](int t) { words.store(t, t, t); });
    b.each([&](int t) { static_cast<void>(words.load(t, 63 - t)); });
  });
  failing([](auto& b, auto& words) {
    b.each([&](int t) { words.store(t, t, t); });
    b.sync();
    b.each([&](int t) { words.add(t, 0, 1); });
    b.each([&](int t) { static_cast<void>(words.load(t, 0)); });
  });
  failing([](auto& b, auto&) {
    auto x = b.template make_local<int>();
    b.each([&](int t) { x[t] = t; });
    static_cast<void>(b.uniform(x));
  });
}
