// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include <cmath>
#include <kvevict/cpu.hpp>
#include <kvevict/cuda/budget/across_ranks.hpp>
#include <random>

#include "../support/simulated_block.hpp"

using namespace kvevict;

namespace {

using rows_of_scores = std::vector<std::vector<float>>;
using rows_of_slots = std::vector<std::vector<index_t>>;

/// Scores of all heads of a model, by row.
struct model_scores {
  cache_shape shape;
  rows_of_scores rows;
};

model_scores random_scores(const cache_shape& shape, index_t longest, std::uint32_t seed) {
  model_scores all{shape, {}};
  std::mt19937 chance(seed);
  for (index_t r = 0; r < shape.rows(); ++r) {
    std::vector<float> row(1 + chance() % std::uint32_t(longest));
    // Heads of different weight: with a low floor some get nothing.
    const float scale = seed % 3 == 0 ? 1.0F : std::exp2(-4.0F * float(chance() % 6));
    for (float& score : row) {
      const float u = float(chance() % 1000000) / 1e6F;
      const float rough = std::floor(u * 4) - 1;
      score = seed % 4 == 0 ? scale * u : seed % 4 == 1 ? rough : seed % 4 == 2 ? 0.5F : scale * std::exp(-25 * u);
      const auto odd = chance() % 40;
      if (seed % 2 == 1 && odd < 5)
        score = odd == 0 ? std::nanf("") : odd == 1 ? INFINITY : odd == 2 ? -INFINITY : odd == 3 ? -0.0F : -score;
    }
    all.rows.push_back(row);
  }
  return all;
}

/// Some heads of it, as a rank holds them, one row after another.
struct part {
  cache_shape shape;
  std::vector<offset_t> offsets{0};
  std::vector<float> scores;

  part(const model_scores& all, index_t first, index_t heads) : shape(all.shape) {
    shape.kv_heads = heads;
    for (index_t s = 0; s < shape.layers * shape.seqs; ++s)
      for (index_t h = first; h < first + heads; ++h) {
        const auto& row = all.rows[std::size_t(s * all.shape.kv_heads + h)];
        scores.insert(scores.end(), row.begin(), row.end());
        offsets.push_back(offset_t(scores.size()));
      }
  }
  [[nodiscard]] row_scores view() const { return {shape, {scores.data(), offsets.data(), index_t(shape.rows())}}; }
};

rows_of_slots split(const std::vector<index_t>& slots, const std::vector<offset_t>& offsets) {
  rows_of_slots rows;
  for (std::size_t r = 0; r + 1 < offsets.size(); ++r)
    rows.emplace_back(slots.begin() + offsets[r], slots.begin() + offsets[r + 1]);
  return rows;
}

/// What one process keeps, on the CPU; nothing where it refuses.
template <class Policy>
rows_of_slots in_one_process(const Policy& policy, const model_scores& all) {
  const part in(all, 0, all.shape.kv_heads);
  std::vector<index_t> slots_of(in.scores.size());
  std::vector<offset_t> offsets(in.offsets.size());
  std::vector<cache_line> scratch(cache_lines(workspace_bytes(cpu{}, policy, in.view())));
  const status s = select(cpu{}, policy, in.view(), {slots_of, offsets}, workspace_of(scratch));
  return s.ok() ? split(slots_of, offsets) : rows_of_slots{};
}

/// The kernels of one rank, in the order in which the entry point launches them.
template <class Policy>
class simulated_rank {
  using rule_type = decltype(std::declval<const Policy&>().rule());
  using task_type = detail::select_task<rule_type>;

 public:
  simulated_rank(const Policy& policy, const model_scores& all, index_t first, index_t heads, std::uint32_t seed)
      : in_(all, first, heads),
        slots_(in_.scores.size(), -1),
        offsets_(in_.offsets.size(), -1),
        place_{first, all.shape.kv_heads},
        threads_(seed % 6 == 5 ? 512 : simulated::threads_of(seed)),  // more than there are bins, too
        team_(1 + int(seed / 3 % 3)),
        seed_(seed),
        task_{.rule = policy.rule(), .protection = policy.protection(), .shape = in_.shape} {
    carver count;
    detail::rank_memory::take(count, in_.shape, place_.kv_heads);
    scratch_.resize(cache_lines(count.bytes()));
    std::memset(static_cast<void*>(scratch_.data()), 0x3f, scratch_.size() * sizeof(cache_line));
    carver from(workspace_of(scratch_).data);
    memory_ = detail::rank_memory::take(from, in_.shape, place_.kv_heads);
    task_.scores = in_.scores.data();
    task_.score_offsets = in_.offsets.data();
    task_.slots = slots_.data();
    task_.slots_room = offset_t(slots_.size());
    task_.offsets = offsets_.data();
  }

  /// Before a sum: the numbers that it adds.
  span<std::int64_t> before_sum(int round) {
    const bool later = round > 0;
    run(team_, detail::rank_kernel_bytes,
        {{memory_.reached, {detail::rank_memory::reached_count(in_.shape.rows()), later}},
         {memory_.histograms, {offset_t{pools()} * detail::histogram_numbers, later}}},
        [&](simulated::block& b) {
          if (round < detail::digit_rounds)
            detail::count_for_ranks(b, task_, memory_, round);
          else
            detail::report_heads(b, task_, place_, memory_);
        });
    return numbers(round);
  }
  /// The same of a rank whose call is refused: zeros, and at the end that it refuses.
  span<std::int64_t> refuse(int round) {
    const span<std::int64_t> zeros = numbers(round);
    std::fill(zeros.begin(), zeros.end(), 0);
    if (round == detail::digit_rounds) zeros[zeros.size() - 1] = 1;
    return zeros;
  }
  rows_of_slots after_sums() {
    run(1, detail::rank_kernel_bytes, {},
        [&](simulated::block& b) { detail::split_for_ranks(b, task_, place_, memory_); });
    task_.budgets = memory_.budgets;
    simulated::run_grid(index_t(in_.shape.rows()), threads_, detail::selection_memory_bytes + detail::key_list_bytes,
                        seed_, [&](simulated::block& b) { detail::select_row(b, task_); });
    return split(slots_, offsets_);
  }

 private:
  part in_;
  std::vector<index_t> slots_;
  std::vector<offset_t> offsets_;
  detail::rank_place place_;
  int threads_, team_;
  std::uint32_t seed_;
  task_type task_;
  std::vector<cache_line> scratch_;
  detail::rank_memory memory_{};

  [[nodiscard]] index_t pools() const { return in_.shape.layers * in_.shape.seqs; }
  [[nodiscard]] span<std::int64_t> numbers(int round) const {
    return memory_.summed(in_.shape, place_.kv_heads, round);
  }
  template <class F>
  void run(int team, offset_t bytes, const std::map<const void*, simulated::team_piece>& pieces, const F& f) {
    simulated::run_teams(pools(), team, threads_, bytes, seed_, pieces, f);
  }
};

/// What the ranks keep, each with so many heads, as rows of all heads. `refuses`: the rank whose call is refused.
/// `disturb(numbers)` may change what a sum leaves.
template <class Policy, class Disturb>
rows_of_slots on_ranks(const Policy& policy, const model_scores& all, const std::vector<index_t>& heads_of,
                       std::uint32_t seed, int refuses, const Disturb& disturb) {
  std::vector<std::unique_ptr<simulated_rank<Policy>>> ranks;
  std::vector<index_t> first_of;
  for (index_t first = 0; const index_t heads : heads_of) {
    ranks.push_back(std::make_unique<simulated_rank<Policy>>(policy, all, first, heads, seed + std::uint32_t(first)));
    first_of.push_back(first);
    first += heads;
  }
  for (int round = 0; round <= detail::digit_rounds; ++round) {
    std::vector<span<std::int64_t>> parts;
    for (auto& rank : ranks)
      parts.push_back(int(parts.size()) == refuses ? rank->refuse(round) : rank->before_sum(round));
    for (offset_t i = 0; i < parts[0].size(); ++i) {
      std::int64_t sum = 0;
      for (const auto& p : parts) sum += p[i];
      for (const auto& p : parts) p[i] = disturb(sum);
    }
    for (const auto& p : parts) REQUIRE(p.size() == parts[0].size());
  }
  rows_of_slots kept(std::size_t(all.shape.rows()));
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
    if (int(rank) == refuses) continue;
    const rows_of_slots rows = ranks[rank]->after_sums();
    for (std::size_t r = 0; r < rows.size(); ++r) {
      const auto heads = std::size_t(heads_of[rank]), pool = r / heads;
      kept[pool * std::size_t(all.shape.kv_heads) + std::size_t(first_of[rank]) + r % heads] = rows[r];
    }
  }
  return kept;
}

constexpr auto as_summed = [](std::int64_t sum) { return sum; };

template <class Policy>
void same_on_ranks(const Policy& policy, const model_scores& all, std::uint32_t seed) {
  const rows_of_slots expected = in_one_process(policy, all);
  if (expected.empty()) return;  // a budget below what is protected
  for (const std::vector<index_t>& heads_of : {std::vector<index_t>{4}, {2, 2}, {1, 1, 1, 1}, {3, 1}, {1, 3}}) {
    CAPTURE(seed);
    CAPTURE(heads_of.size());
    CAPTURE(heads_of[0]);
    REQUIRE(on_ranks(policy, all, heads_of, seed, -1, as_summed) == expected);
  }
}

}  // namespace

TEST_CASE("ranks on the device keep what one process keeps on the CPU") {
  for (std::uint32_t seed = 0; seed < 10; ++seed) {
    const cache_shape shape{.layers = index_t(1 + seed % 2), .seqs = index_t(1 + seed / 2 % 2), .kv_heads = 4};
    const model_scores all = random_scores(shape, seed % 7 == 0 ? 3 : 120, seed);
    same_on_ranks(adakv{snapkv<>{.budget = percent(30), .recent = 2}}, all, seed);
    same_on_ranks(adakv{streaming_llm{.budget = slots(30)}, 0.0}, all, seed);
    same_on_ranks(adakv{snapkv<>{.budget = percent(40), .recent = 0}, 0.25 * (seed % 5), budget::safeguard::minimum},
                  all, seed);
    same_on_ranks(adakv{pyramidkv<>{.budget = slots(40), .recent = 4}, 1.0}, all, seed);
    same_on_ranks(adakv{knorm{.budget = slots(seed % 3 == 0 ? 1 : 2000)}}, all, seed);  // hardly anything; everything
  }
}

TEST_CASE("ranks on the device: digits that all scores share, and a rank that gets nothing") {
  for (std::uint32_t seed = 0; seed < 6; ++seed) {
    model_scores all = random_scores({.kv_heads = 4}, 400, 4 * seed);
    for (auto& row : all.rows)
      for (float& score : row) score = 1 + std::floor(score * 50) / 8388608;  // alike but for the last digit
    for (float& score : all.rows[3]) score = seed % 2 == 0 ? -INFINITY : std::nanf("");
    const adakv policy{knorm{.budget = slots(20)}, 0.0};
    REQUIRE(in_one_process(policy, all).at(3).empty());
    same_on_ranks(policy, all, seed);
  }
}

TEST_CASE("ranks on the device: where one refuses, the others keep every row whole") {
  const model_scores all = random_scores({.layers = 2, .kv_heads = 4}, 90, 8);
  const adakv policy{knorm{.budget = slots(20)}};
  for (const int refuses : {0, 2}) {
    const rows_of_slots kept = on_ranks(policy, all, {1, 1, 2}, 5, refuses, as_summed);
    for (std::size_t r = 0; r < kept.size(); ++r) {
      const int rank = r % 4 < 2 ? int(r % 4) : 2;
      CHECK(kept[r].size() == (rank == refuses ? 0 : all.rows[r].size()));
    }
  }
}

TEST_CASE("ranks on the device: wrong sums give wrong budgets, but slots of the row") {
  for (std::uint32_t seed = 0; seed < 60; ++seed) {
    const model_scores all = random_scores({.layers = 2, .kv_heads = 4}, 90, seed);
    std::mt19937 chance(seed);
    const auto wrong = [&](std::int64_t sum) {
      const auto what = chance() % 6;
      const std::int64_t noise = std::int64_t(chance() % 2001) - 1000;
      return what == 0 ? noise : what == 1 ? sum + noise : what == 2 ? 0 : sum;
    };
    const auto kind = seed % 2 == 0 ? budget::safeguard::mixture : budget::safeguard::minimum;
    const rows_of_slots kept = on_ranks(adakv{knorm{.budget = slots(20)}, 0.3, kind}, all, {2, 2}, seed, -1, wrong);
    for (std::size_t r = 0; r < kept.size(); ++r)
      for (std::size_t i = 0; i < kept[r].size(); ++i) {
        REQUIRE(kept[r][i] >= (i == 0 ? 0 : kept[r][i - 1] + 1));
        REQUIRE(kept[r][i] < index_t(all.rows[r].size()));
      }
  }
}
