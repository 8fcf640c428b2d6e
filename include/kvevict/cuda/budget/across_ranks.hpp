// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/budget/exchange.hpp>
#include <kvevict/cuda/budget/share.hpp>
#include <kvevict/cuda/detail/bounded.hpp>

/// Joint budgets over the kv_heads of several ranks, from what they add up (budget/exchange.hpp): a kernel before each
/// sum, which first reads what the sum before it left, and one behind the last. One source for the device and for
/// tests.
namespace kvevict::detail {

/// Memory of the device for these budgets. It depends on the shape and on the number of heads alone.
struct rank_memory {
  std::int64_t* histograms;  ///< [pools][histogram_numbers], summed over the ranks in every round
  std::int64_t* heads;       ///< [pools][all heads][head_numbers], then how many ranks refuse: summed in the last
  index_t* budgets;          ///< [rows], the result
  index_t* reached;          ///< [2][rows][digit_bins + 1]: scores of a row with that digit or a higher one, by turns
  std::uint32_t* prefixes;   ///< [digit_rounds][pools]: the digits found, by the round that found the last of them
  index_t* floors;           ///< [rows]: least evictable slots that stay
  index_t* share;            ///< [pools][all heads]
  float* remainder;          ///< [pools][all heads]

  static constexpr rank_memory take(carver& from, const cache_shape& shape, index_t all_heads) {
    const offset_t pools = pools_of(shape), rows = shape.rows(), heads = pools * all_heads;
    rank_memory m{};
    m.histograms = from.take<std::int64_t>(pools * histogram_numbers);
    m.heads = from.take<std::int64_t>(heads * head_numbers + 1);
    m.budgets = from.take<index_t>(rows);
    m.reached = from.take<index_t>(reached_count(rows));
    m.prefixes = from.take<std::uint32_t>(digit_rounds * pools);
    m.floors = from.take<index_t>(rows);
    m.share = from.take<index_t>(heads);
    m.remainder = from.take<float>(heads);
    return m;
  }
  [[nodiscard]] KVEVICT_HOST_DEVICE static constexpr offset_t pools_of(const cache_shape& shape) {
    return static_cast<offset_t>(shape.layers) * shape.seqs;
  }
  [[nodiscard]] KVEVICT_HOST_DEVICE static constexpr offset_t reached_count(offset_t rows) {
    return 2 * rows * (digit_bins + 1);
  }
  [[nodiscard]] KVEVICT_HOST_DEVICE static constexpr offset_t reached_at(offset_t rows, int round, index_t row,
                                                                         index_t bin) {
    return (round % 2 * rows + row) * (digit_bins + 1) + bin;
  }
  /// The numbers of one sum: of a round, or, behind the last of them, of the heads.
  [[nodiscard]] constexpr span<std::int64_t> summed(const cache_shape& shape, index_t all_heads, int round) const {
    if (round < digit_rounds) return {histograms, pools_of(shape) * histogram_numbers};
    return {heads, pools_of(shape) * all_heads * head_numbers + 1};
  }
};

/// Shared memory of the kernels in bytes.
inline constexpr offset_t rank_kernel_bytes = digit_memory_bytes + warp_threads * sizeof(offset_t);

/// The digits of a pool's threshold as far as they are known, and the last of them.
struct found_digits {
  std::uint32_t prefix = 0;
  index_t bin = 0;
};

/// Reads the sums of a round: the highest digit at which what stays reaches the free budget.
template <class Block, class Numbers, class Shared>
[[nodiscard]] KVEVICT_HOST_DEVICE found_digits find_digit(Block& b, const rank_memory& memory, const Numbers& numbers,
                                                          index_t pool, offset_t pools, int round, const Shared& sums,
                                                          const digit_memory<Block>& m) {
  const offset_t at = static_cast<offset_t>(pool) * histogram_numbers;
  // Bins hold what is added; a wrong sum that is negative adds nothing, so that one digit is found in any case.
  const auto in_bin = [&](int t, index_t bin) { return greatest<offset_t>(0, numbers.load(t, at + bin)); };
  auto own = b.template make_local<offset_t>(), above = own;
  b.each([&](int t) {
    own[t] = 0;
    each_bin<digit_bins>(t, b.threads(), [&](index_t bin) { own[t] += in_bin(t, bin); });
  });
  exclusive_sums<offset_t>(b, own, above, sums);
  b.each([&](int t) {
    const offset_t total = least(numbers.load(t, at + free_budgets), numbers.load(t, at + rooms));
    offset_t reached = numbers.load(t, at + reached_above) + above[t];
    each_bin<digit_bins>(t, b.threads(), [&](index_t bin) {
      const offset_t with_bin = reached + in_bin(t, bin);
      if ((bin == digit_bins - 1 || reached < total) && (bin == 0 || with_bin >= total)) m.found.store(t, 0, bin);
      reached = with_bin;
    });
  });
  b.sync();
  auto found = b.template make_local<index_t>();
  b.each([&](int t) { found[t] = m.found.load(t, 0); });
  b.sync();
  const index_t bin = b.uniform(found);
  std::uint32_t* const prefixes = memory.prefixes + pool;
  const std::uint32_t before = round > 0 ? prefixes[(round - 1) * pools] : 0;
  const std::uint32_t prefix = before | static_cast<std::uint32_t>(bin) << digit_shift(round);
  b.each([&](int t) {
    if (t == 0 && b.team_rank() == 0) prefixes[round * pools] = prefix;
  });
  return {prefix, bin};
}

/// The kernel before the sum of a round, a team of blocks per pool: the histogram of this rank's rows.
template <class Block, class Rule>
KVEVICT_HOST_DEVICE void count_for_ranks(Block& b, const select_task<Rule>& task, const rank_memory& memory,
                                         int round) {
  const auto m = digit_memory<Block>::take(b);
  const auto sums = b.template shared<offset_t>(warp_threads);
  const auto reached = b.team(memory.reached);
  const auto numbers = b.team(memory.histograms);
  const index_t count = task.shape.kv_heads, pool = b.index() / b.team_size(), first = pool * count;
  const auto at = [&](int of_round, index_t i, index_t bin) {
    return rank_memory::reached_at(task.shape.rows(), of_round, first + i, bin);
  };
  found_digits so_far{};
  if (round > 0) so_far = find_digit(b, memory, numbers, pool, rank_memory::pools_of(task.shape), round - 1, sums, m);

  auto no_keys = key_room<Block>::take(b, 0);
  for (index_t i = b.team_rank(); i < count; i += b.team_size()) {
    const row_plan p = task.plan(first + i);
    const digit d{digit_shift(round), 8};
    row_keys<Block> row(task.scores_of(first + i) + p.kept.sinks, p.room(), no_keys);
    count_digit(b, row, d, so_far.prefix, p.room(), m);
    const auto place = [&](int of_round, index_t of_bin) { return at(of_round, i, of_bin); };
    note_reached<digit_bins>(b, m, reached, round, so_far.bin, place);
    b.sync();
  }
  b.team_sync();
  if (b.team_rank() != 0) return;

  index_t* const floors = memory.floors + first;
  auto free_budget = b.template make_local<offset_t>(), room = free_budget, before = free_budget;
  b.each([&](int t) {
    free_budget[t] = room[t] = 0;
    KVEVICT_ROLLED for (index_t i = t; i < count; i += b.threads()) {
      const row_plan p = task.plan(first + i);
      free_budget[t] += evictable_budget(p);
      room[t] += p.room();
      floors[i] = floor_of(task.rule, p.nominal, p.kept.count(), p.room());
    }
  });
  const offset_t all_free = exclusive_sums<offset_t>(b, free_budget, before, sums);
  const offset_t all_room = exclusive_sums<offset_t>(b, room, before, sums);
  const offset_t to = static_cast<offset_t>(pool) * histogram_numbers;
  b.each([&](int t) {
    KVEVICT_ROLLED for (index_t bin = t; bin <= digit_bins; bin += b.threads()) {
      offset_t stay = 0;
      KVEVICT_ROLLED for (index_t i = 0; i < count; ++i) {
        stay += greatest(floors[i], reached.load(t, at(round, i, bin)));
        if (bin < digit_bins) stay -= greatest(floors[i], reached.load(t, at(round, i, bin + 1)));
      }
      numbers.store(t, to + bin, stay);  // the last: what is reached above all bins
    }
    if (t != 0) return;
    numbers.store(t, to + free_budgets, all_free);
    numbers.store(t, to + rooms, all_room);
  });
}

/// The kernel before the last sum, a team per pool: what the split needs to know of this rank's heads.
template <class Block, class Rule>
KVEVICT_HOST_DEVICE void report_heads(Block& b, const select_task<Rule>& task, const rank_place& place,
                                      const rank_memory& memory) {
  const auto m = digit_memory<Block>::take(b);
  const auto sums = b.template shared<offset_t>(warp_threads);
  const auto reached = b.team(memory.reached);
  const index_t count = task.shape.kv_heads, pool = b.index() / b.team_size(), first = pool * count;
  const offset_t pools = rank_memory::pools_of(task.shape);
  const found_digits found = find_digit(b, memory, b.team(memory.histograms), pool, pools, digit_rounds - 1, sums, m);
  if (b.team_rank() != 0) return;
  b.each([&](int t) {
    KVEVICT_ROLLED for (index_t head = t; head < place.kv_heads; head += b.threads()) {
      const index_t i = head - place.first_kv_head;
      pool_counts counts{};
      if (i >= 0 && i < count) {
        const row_plan p = task.plan(first + i);
        const offset_t at = rank_memory::reached_at(task.shape.rows(), digit_rounds - 1, first + i, found.bin);
        counts.above = reached.load(t, at + 1);
        counts.equal = reached.load(t, at) - counts.above;
        counts.floor = memory.floors[first + i];
        counts.free_budget = evictable_budget(p);
        counts.room = p.room();
      }
      write_counts(counts, memory.heads + (static_cast<offset_t>(pool) * place.kv_heads + head) * head_numbers);
    }
    if (pool == 0 && t == 0) memory.heads[pools * place.kv_heads * head_numbers] = 0;  // this rank does not refuse
  });
}

/// The kernel behind the last sum, a block per pool: the budgets of this rank's rows. Where a rank refuses, all of them
/// keep everything. Sums that are wrong give wrong budgets, but none above the row's length.
template <class Block, class Rule>
KVEVICT_HOST_DEVICE void split_for_ranks(Block& b, const select_task<Rule>& task, const rank_place& place,
                                         const rank_memory& memory) {
  const auto m = digit_memory<Block>::take(b);
  const auto of_warps = b.template shared<offset_t>(warp_threads);
  const index_t pool = b.index(), local = task.shape.kv_heads, heads = place.kv_heads;
  const offset_t before = static_cast<offset_t>(pool) * heads;
  const std::int64_t* const numbers = memory.heads + before * head_numbers;
  const std::int64_t* const sums = memory.histograms + static_cast<offset_t>(pool) * histogram_numbers;
  const offset_t total = least(sums[free_budgets], sums[rooms]);
  const auto counts = [&](index_t head) { return read_counts(numbers + offset_t{head} * head_numbers); };
  index_t* const share = memory.share + before;
  b.each([&](int t) { KVEVICT_ROLLED for (index_t head = t; head < heads; head += b.threads()) share[head] = 0; });
  if (total > 0) split_pool(b, task.rule, heads, total, counts, share, memory.remainder + before, m, of_warps);
  b.sync();
  const bool refused = memory.heads[rank_memory::pools_of(task.shape) * heads * head_numbers] > 0;
  b.each([&](int t) {
    KVEVICT_ROLLED for (index_t i = t; i < local; i += b.threads()) {
      const row_plan p = task.plan(pool * local + i);
      const index_t free_budget = greatest(0, least(share[place.first_kv_head + i], p.room()));
      memory.budgets[pool * local + i] = refused ? p.length : p.kept.count() + free_budget;
    }
  });
}

}  // namespace kvevict::detail
