// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/budget/across_ranks.hpp>
#include <kvevict/cuda/detail/alignment.hpp>
#include <kvevict/cuda/select/receipt.hpp>
#include <numeric>

#include "../reliability/choices.hpp"
#include "../support/simulated_block.hpp"

/// What kernels and the CPU compute alike, one function at a time, on inputs that bytes choose, extreme ones among
/// them; `run_functions` throws where a property is violated. A test and a fuzzer run it.
namespace properties {

/// Any number up to `most`, the ends and powers of two often.
inline index_t any_index(choices& c, index_t most) {
  const index_t kind = c.between(0, 4);
  const auto bits = index_t(c.bits() & 0x7fffffff);
  const index_t x = kind == 0   ? bits % 8
                    : kind == 1 ? most - bits % 8
                    : kind == 2 ? (1 << bits % 31) - c.between(0, 1)
                                : bits;
  return x < 0 || x > most ? index_t(offset_t{bits} % (offset_t{most} + 1)) : x;
}

/// Scores and the unsigned numbers whose digits are searched.
inline void check_keys(choices& c) {
  const auto any_score = [&] {
    const std::uint32_t edges[] = {0, 1, 0x007fffff, 0x00800000, 0x7f7fffff, 0x7f800000, 0x7f800001, 0x7fffffff};
    const std::uint32_t bits = c.one_in(3) ? edges[c.between(0, 7)] ^ (c.bits() & 0x80000000u) : c.bits();
    return std::bit_cast<float>(bits);
  };
  const float a = any_score(), b = any_score();
  const std::uint32_t key_a = detail::radix_key(a), key_b = detail::radix_key(b);
  if (std::isnan(a)) require(key_a == 0, "NaN is the lowest key");
  if (!std::isnan(a) && std::isnan(b)) require(key_a > key_b, "every number lies above NaN");
  if (!std::isnan(a) && !std::isnan(b))
    require((a < b) == (key_a < key_b) && (a == b) == (key_a == key_b), "keys have the order of scores");
  const float back = detail::score_of(key_a);
  require(std::isnan(a) ? std::isnan(back) : back == a, "a key stands for its score");
  require(detail::radix_key(back) == key_a, "and the score for its key");

  std::uint32_t joined = 0;
  for (int round = 0, shift = 32; round < detail::radix_rounds; ++round) {
    const auto d = detail::digit::of(round);
    require(d.shift + d.bits == shift, "digits follow each other");
    require(d.candidate(key_b, key_a) == (shift == 32 || key_a >> shift == key_b >> shift),
            "a candidate has the digits before");
    require(d.bin(key_a) >= 0 && d.bin(key_a) < (1 << d.bits) && (1 << d.bits) <= detail::radix_bins, "a bin for each");
    joined |= std::uint32_t(d.bin(key_a)) << d.shift;
    shift = d.shift;
    require(round < detail::radix_rounds - 1 || shift == 0, "digits cover the key");
  }
  require(joined == key_a, "digits make the key");
  joined = 0;
  for (int round = 0; round < detail::digit_rounds; ++round)
    joined |= std::uint32_t(detail::digit{detail::digit_shift(round), 8}.bin(key_a)) << detail::digit_shift(round);
  require(joined == key_a, "also the digits of ranks");
}

/// The bins of all threads, and a threshold beside a sorted row.
inline void check_search(choices& c) {
  const int threads = 32 * int(c.between(1, 32));
  std::vector<int> owned(detail::radix_bins), stretched(detail::digit_bins);
  for (int t = 0; t < threads; ++t) {
    detail::each_bin<detail::radix_bins>(t, threads, [&](index_t bin) { ++owned[std::size_t(bin)]; });
    detail::each_bin<detail::digit_bins>(t, threads, [&](index_t bin) { ++stretched[std::size_t(bin)]; });
  }
  const auto once = [](int n) { return n == 1; };
  require(std::all_of(owned.begin(), owned.end(), once), "every bin has one thread");
  require(std::all_of(stretched.begin(), stretched.end(), once), "every bin of the ranks has one thread");

  std::vector<float> scores(std::size_t(c.between(1, 200)));
  const index_t kind = c.between(0, 3);
  for (float& s : scores)
    s = kind == 0 ? c.number() : kind == 1 ? float(c.bits() % 3) : kind == 2 ? std::bit_cast<float>(c.bits()) : -0.0F;
  const index_t count = index_t(scores.size()), wanted = c.between(1, count);
  simulated::block b(0, 32 * int(c.between(1, 4)), detail::digit_memory_bytes, c.bits());
  const auto memory = detail::digit_memory<simulated::block>::take(b);
  const detail::row_threshold found = detail::find_threshold(b, scores.data(), count, wanted, memory);
  std::vector<std::uint32_t> keys;
  for (const float s : scores) keys.push_back(detail::radix_key(s));
  std::sort(keys.rbegin(), keys.rend());
  require(found.key == keys[std::size_t(wanted - 1)], "the threshold is the last key that stays");
  const auto above = std::count_if(keys.begin(), keys.end(), [&](std::uint32_t k) { return k > found.key; });
  require(above + found.ties == wanted, "ties fill what higher keys leave");
}

/// What a policy means for a row of any length, and what it brings into a pool.
inline void check_plan(choices& c) {
  const auto any_amount = [&] {
    return c.one_in(2) ? slots(any_index(c, most_slots)) : amount{c.between(0, 3), any_index(c, 1000000)};
  };
  const index_t length = 1 + any_index(c, most_slots - 1);
  const protect protection{c.one_in(2) ? 0 : any_index(c, most_slots), any_amount()};
  const budget::adaptive<budget::uniform> rule{{any_amount()}, c.between(0, 10) / 10.0, budget::safeguard::minimum};
  const auto p = detail::plan_row(rule, protection, cache_shape{}, row_id{}, length, length);
  require(p.kept.sinks >= 0 && p.kept.recent >= 0 && p.room() >= 0, "protected slots lie inside the row");
  require(p.alone() >= 0 && p.alone() <= length && p.whole == (p.alone() == length), "no row keeps more than it has");
  require(!p.possible() || p.alone() >= p.kept.count(), "a possible budget has the protected slots");
  require(detail::evictable_budget(p) >= 0, "a row takes nothing from its pool");
  const offset_t share = offset_t{millionths(rule.floor)} * p.nominal / 1000000 - p.kept.count();
  require(
      detail::floor_of(rule, p.nominal, p.kept.count(), p.room()) == std::clamp(share, offset_t{0}, offset_t{p.room()}),
      "the floor is the safeguard's share, inside the row");
}

/// The split of a pool whose rows have a few different scores, and any number of slots with each.
inline void check_split(choices& c) {
  const bool mixed = c.one_in(2), small = c.one_in(2);
  const auto kind = mixed ? budget::safeguard::mixture : budget::safeguard::minimum;
  const budget::adaptive<budget::uniform> rule{{slots(1)}, c.between(0, 10) / 10.0, kind};
  const index_t rows = c.between(1, 6), levels = c.between(1, 4);
  const auto count = std::size_t(rows);
  std::vector<std::vector<index_t>> reached(count);  // slots with that score or a higher one
  std::vector<detail::pool_counts> counts(count);
  offset_t total = 0, rooms = 0;
  for (std::size_t r = 0; r < reached.size(); ++r) {
    index_t sum = 0;
    for (index_t level = 0; level < levels; ++level)
      reached[r].push_back(sum += any_index(c, small ? 9 : most_slots / levels));
    detail::pool_counts& of = counts[r];
    of.room = sum;
    // Where rows are full, a mixture deals the rest slot by slot: not with large numbers here.
    of.free_budget = any_index(c, small ? 20 : mixed ? of.room : most_slots - 5);
    const index_t kept = c.between(0, 5);
    of.floor = detail::floor_of(rule, of.free_budget + kept, kept, of.room);
    total += of.free_budget;
    rooms += of.room;
  }
  total = std::min(total, rooms);
  if (total < 1) return;
  const auto stays = [&](std::size_t r, index_t level) {
    return std::max(counts[r].floor, level < 0 ? 0 : reached[r][std::size_t(level)]);
  };
  index_t last = -1;  // the score at which the total is reached
  for (offset_t sum = 0; sum < total; ++last) {
    sum = 0;
    for (std::size_t r = 0; r < reached.size(); ++r) sum += stays(r, last + 1);
  }
  for (std::size_t r = 0; r < reached.size(); ++r) {
    counts[r].above = last > 0 ? reached[r][std::size_t(last - 1)] : 0;
    counts[r].equal = reached[r][std::size_t(last)] - counts[r].above;
    std::int64_t numbers[detail::head_numbers];
    detail::write_counts(counts[r], numbers);
    const detail::pool_counts back = detail::read_counts(numbers);
    require(back.above == counts[r].above && back.equal == counts[r].equal && back.floor == counts[r].floor &&
                back.free_budget == counts[r].free_budget && back.room == counts[r].room,
            "what a rank writes is what all read");
  }
  std::vector<index_t> share(count, -7);
  std::vector<offset_t> remainder(count, -7);
  detail::split_pool(
      rule, rows, total, [&](index_t i) { return counts[std::size_t(i)]; }, share.data(), remainder.data());
  offset_t sum = 0, certain = 0;
  for (std::size_t r = 0; r < share.size(); ++r) {
    require(share[r] >= 0 && share[r] <= counts[r].room, "a share lies inside the row");
    sum += share[r];
    certain += stays(r, last - 1);
  }
  require(sum == total, "the shares of a pool are its budget");
  offset_t ties = total - certain;  // to the rows in order
  for (std::size_t r = 0; r < share.size(); ++r) {
    const offset_t extra = std::min<offset_t>(ties, stays(r, last) - stays(r, last - 1));
    const offset_t joint = stays(r, last - 1) + extra;
    ties -= extra;
    if (!mixed) require(share[r] == joint, "the highest scores stay, equal ones of the smaller row");
    const offset_t part = budget::mixture_millionths(joint, counts[r].free_budget, millionths(rule.floor)) / 1000000;
    if (mixed) require(share[r] >= std::min<offset_t>(part, counts[r].room), "a mixture is rounded up or down");
  }
}

/// Pages anywhere in pools of any size: every entry has a place of its own inside of its pool.
inline void check_pages(choices& c) {
  const cache_shape shape{c.between(1, 3), c.between(1, 3), c.between(1, 3)};
  const index_t kind = c.between(0, 3), block_size = c.between(1, 20), max_blocks = c.between(1, 4);
  const index_t dims = c.one_in(2) ? 8 * c.between(1, 32) : c.between(1, 20);
  paged layout = kind == 0   ? paged_nhd(nullptr, max_blocks, block_size, shape.kv_heads, dims, 0)
                 : kind == 1 ? paged_hnd(nullptr, max_blocks, block_size, shape.kv_heads, dims, 0)
                 : kind == 2 ? paged_per_layer(nullptr, max_blocks, block_size, shape.kv_heads, dims, shape.seqs)
                             : paged_per_row(nullptr, max_blocks, block_size, dims);
  const offset_t tables = kind < 2 ? shape.seqs : kind == 2 ? offset_t{shape.layers} * shape.seqs : shape.rows();
  const auto used = index_t(tables * max_blocks);
  const index_t first = any_index(c, std::numeric_limits<index_t>::max() - used), blocks = first + used;
  if (c.one_in(3)) layout.block += c.between(1, 9);  // a gap behind every block
  if (kind < 2) layout.layer = layout.block * blocks;
  std::vector<index_t> table(static_cast<std::size_t>(used));
  std::iota(table.begin(), table.end(), first);
  std::shuffle(table.begin(), table.end(), std::mt19937(c.bits()));
  layout.block_table = table.data();

  const offset_t multiple = offset_t{1} << c.between(0, 4);
  const bool at_multiples = detail::at_multiples(layout, multiple);
  std::vector<offset_t> places;
  for (index_t r = 0; r < shape.rows(); ++r) {
    const row_id row = shape.row(r);
    require(layout.capacity(row) == offset_t{max_blocks} * block_size, "a table row holds so many slots");
    for (index_t slot = 0; slot < layout.capacity(row); ++slot) {
      places.push_back(layout.offset(row, slot, 0));
      require(layout.offset(row, slot, dims - 1) == places.back() + dims - 1, "the dims of an entry are adjacent");
      require(!at_multiples || places.back() % multiple == 0, "entries start where the host says that they do");
    }
  }
  std::sort(places.begin(), places.end());
  const offset_t pools = kind < 2 ? shape.layers : 1;
  require(places.front() >= layout.block * first && places.back() + dims <= pools * layout.block * blocks,
          "entries lie inside of the pool");
  for (std::size_t i = 1; i < places.size(); ++i) require(places[i] - places[i - 1] >= dims, "no two entries overlap");
}

/// Pieces of a workspace, in the order in which they were taken.
class taken_pieces {
 public:
  explicit taken_pieces(const workspace& memory) : memory_(memory), end_(memory.data) {}
  template <class T>
  void add(const T* piece, offset_t count) {
    const auto* first = reinterpret_cast<const std::byte*>(piece);
    require(reinterpret_cast<std::uintptr_t>(piece) % workspace_alignment == 0, "a piece starts on a cache line");
    require(first >= end_ && first - end_ < std::ptrdiff_t(workspace_alignment), "pieces lie one behind the other");
    end_ = first + count * offset_t(sizeof(T));
    require(end_ <= memory_.end(), "what is measured is enough");
  }

 private:
  workspace memory_;
  const std::byte* end_;
};

inline void check_workspace(choices& c) {
  static std::vector<cache_line> lines;
  const auto laid_out = [&](const auto& take, const auto& each_piece) {
    carver count;
    take(count);
    lines.resize(cache_lines(count.bytes()));
    carver place(workspace_of(lines).data);
    const auto memory = take(place);
    require(place.bytes() == count.bytes(), "measuring and placing agree");
    taken_pieces pieces(workspace_of(lines));
    each_piece(memory, pieces);
  };
  const cache_shape shape{c.between(1, 4), c.between(1, 3), c.between(1, 8)};
  const offset_t rows = shape.rows(), sequences = offset_t{shape.layers} * shape.seqs;
  const index_t heads = shape.kv_heads + c.between(0, 9);
  laid_out([&](carver& from) { return detail::share_memory::take(from, rows); },
           [&](const detail::share_memory& m, taken_pieces& pieces) {
             pieces.add(m.budgets, rows);
             pieces.add(m.limits, rows);
             pieces.add(m.reached, detail::share_memory::reached_count(rows));
             pieces.add(m.members, rows);
             pieces.add(m.floors, rows);
             pieces.add(m.counts, rows);
             pieces.add(m.share, rows);
             pieces.add(m.remainder, rows);
           });
  laid_out([&](carver& from) { return detail::rank_memory::take(from, shape, heads); },
           [&](const detail::rank_memory& m, taken_pieces& pieces) {
             for (const int round : {0, detail::digit_rounds}) {
               const span<std::int64_t> sums = m.summed(shape, heads, round);
               pieces.add(sums.data, sums.size());
             }
             pieces.add(m.budgets, rows);
             pieces.add(m.reached, detail::rank_memory::reached_at(rows, 1, index_t(rows) - 1, detail::digit_bins) + 1);
             pieces.add(m.prefixes, detail::digit_rounds * sequences);
             pieces.add(m.floors, rows);
             pieces.add(m.share, sequences * heads);
             pieces.add(m.remainder, sequences * heads);
           });
  carver large;  // counts that pass 2^32
  offset_t expected = 0;
  for (int i = 0; i < 5; ++i) {
    const offset_t n = offset_t{any_index(c, most_slots)} * c.between(1, 1000);
    static_cast<void>(i % 2 == 0 ? large.take<std::byte>(n) == nullptr : large.take<double>(n) == nullptr);
    const offset_t bytes = i % 2 == 0 ? n : 8 * n;
    expected += bytes + (64 - bytes % 64) % 64;
  }
  require(large.bytes() == expected, "bytes are counted in 64 bits");
}

/// Sums and maxima over a block, one after another in the same memory.
inline void check_sums(choices& c) {
  simulated::block b(0, 32 * int(c.between(1, 16)), 1024, c.bits());
  const auto memory = b.shared<offset_t>(detail::warp_threads);
  for (int again = 0; again < 2; ++again) {
    auto x = b.make_local<offset_t>(), before = x;
    offset_t sum = 0, largest = std::numeric_limits<offset_t>::min();
    for (int t = 0; t < b.threads(); ++t) {
      x[t] = offset_t{any_index(c, most_slots)} * (c.one_in(2) ? 1 : -1000);
      largest = std::max(largest, x[t]);
    }
    require(
        b.uniform(detail::reduce_block(b, x, memory, [](offset_t p, offset_t q) { return std::max(p, q); })) == largest,
        "a reduction has all threads");
    const offset_t all = detail::exclusive_sums<offset_t>(b, x, before, memory);
    for (int t = 0; t < b.threads(); sum += x[t++]) require(before[t] == sum, "a sum has the threads before");
    require(all == sum, "a sum has all threads");
  }
}

/// Lengths that only the device knows: whatever they are, rows fit into the workspace that the host has sized.
inline void check_lengths(choices& c) {
  const cache_shape shape{c.between(1, 5), c.between(1, 4), c.between(1, 4)};
  const index_t longest = 1 + any_index(c, most_slots - 1);
  std::vector<index_t> lengths(static_cast<std::size_t>(shape.rows()));
  for (index_t& length : lengths) length = any_index(c, most_slots) * (c.one_in(5) ? -1 : 1);
  const float key = 0;
  const inputs in{key_cache{shape, lengths.data(), entries{&key, hnd(1, 1, 1, 1), 1}}};
  const auto seen = detail::bounded(in, longest);
  std::vector<offset_t> offsets(lengths.size() + 1, -7);
  simulated::block b(0, 32 * int(c.between(1, 4)), detail::lay_out_bytes, c.bits());
  std::vector<index_t> budget_lengths(lengths.size(), -7);
  detail::lay_out_rows(b, seen, offsets.data(), budget_lengths.data());
  offset_t sum = 0;
  for (std::size_t r = 0; r < lengths.size(); ++r) {
    const index_t length = seen.cache.length(shape.row(index_t(r)));
    require(length >= 1 && length <= longest, "a row has a slot, and no more than the host said");
    require(length == lengths[r] || lengths[r] < 1 || lengths[r] > longest, "other lengths are as they are");
    require(offsets[r] == sum, "rows lie one behind the other");
    require(budget_lengths[r] == length, "without a state a budget refers to the row's own length");
    sum += length;
  }
  require(offsets.back() == sum, "and end where the last one does");
}

/// All of them once, as the bytes choose.
inline void run_functions(const std::uint8_t* data, std::size_t size) {
  choices c(data, size);
  check_keys(c);
  check_plan(c);
  check_split(c);
  if (c.one_in(4)) check_pages(c);
  if (c.one_in(4)) check_workspace(c);
  if (c.one_in(8)) check_sums(c);
  if (c.one_in(8)) check_lengths(c);
  if (c.one_in(16)) check_search(c);
}

}  // namespace properties
