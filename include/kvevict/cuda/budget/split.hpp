// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/budget/split.hpp>
#include <kvevict/cuda/detail/digits.hpp>

/// The split of a pool by a block: what budget/split.hpp does row by row and slot by slot, for all rows at a time.
namespace kvevict::detail {

/// Splits the free budget `total` > 0 of a pool: share[i] evictable slots for row i, which thread i % threads writes.
/// Equal scores go to the rows in order, as far as the sum of those before a row leaves some. The slots that a mixture
/// leaves go to the rows that are not full, one to each of them while there are enough; the last ones are a selection,
/// with the remainders as scores.
template <class Block, class Base, class Counts, class Shared>
KVEVICT_HOST_DEVICE void split_pool(Block& b, const budget::adaptive<Base>& rule, index_t rows, offset_t total,
                                    const Counts& of, index_t* share, float* remainder, const digit_memory<Block>& m,
                                    const Shared& sums) {
  auto own = b.template make_local<offset_t>(), before = own;
  const auto sum_over_rows = [&](const auto& number) {
    b.each([&](int t) {
      own[t] = 0;
      KVEVICT_ROLLED for (index_t i = t; i < rows; i += b.threads()) own[t] += number(t, i);
    });
    return exclusive_sums<offset_t>(b, own, before, sums);
  };
  // use(t, i, number of row i, sum of those before it)
  const auto in_order = [&](const auto& number, const auto& use) {
    offset_t first = 0;
    KVEVICT_ROLLED for (offset_t chunk = 0; chunk < rows; chunk += b.threads()) {
      const auto row = [&](int t) { return static_cast<index_t>(chunk + t); };
      b.each([&](int t) { own[t] = chunk + t < rows ? number(t, row(t)) : 0; });
      const offset_t more = exclusive_sums<offset_t>(b, own, before, sums);
      b.each([&](int t) {
        if (chunk + t < rows) use(t, row(t), own[t], first + before[t]);
      });
      first += more;
    }
  };
  const auto certain = [&](index_t i) -> offset_t { return greatest(of(i).floor, of(i).above); };
  const offset_t ties = total - sum_over_rows([&](int, index_t i) { return certain(i); });
  in_order([&](int, index_t i) { return greatest<offset_t>(0, offset_t{of(i).above} + of(i).equal - certain(i)); },
           [&](int, index_t i, offset_t equal, offset_t equal_before) {
             const offset_t extra = greatest<offset_t>(0, least(equal, ties - equal_before));
             share[i] = static_cast<index_t>(certain(i) + extra);
           });
  if (rule.kind != budget::safeguard::mixture) return;

  offset_t left = total - sum_over_rows([&](int t, index_t i) {
                    const offset_t mixed =
                        budget::mixture_millionths(share[i], of(i).free_budget, millionths(rule.floor));
                    const offset_t whole = least<offset_t>(mixed / 1000000, of(i).room);
                    share[i] = static_cast<index_t>(whole);
                    b.store(t, remainder + i, static_cast<float>(mixed % 1000000));
                    return whole;
                  });
  const auto spare = [&](index_t i) { return greatest<offset_t>(0, offset_t{of(i).room} - share[i]); };
  KVEVICT_ROLLED while (left > 0) {
    const offset_t open = sum_over_rows([&](int, index_t i) { return offset_t{spare(i) > 0}; });
    if (open == 0) return;  // counts that do not belong together
    if (left >= open) {
      const offset_t each = left / open;
      left -= sum_over_rows([&](int, index_t i) {
        const offset_t more = least(spare(i), each);
        share[i] += static_cast<index_t>(more);
        return more;
      });
      continue;
    }
    b.each([&](int t) {
      KVEVICT_ROLLED for (index_t i = t; i < rows; i += b.threads()) if (spare(i) == 0)
          b.store(t, remainder + i, not_a_number());
    });
    b.sync();
    if (rows <= b.threads()) {  // as many comparisons as rows, instead of a search
      b.each([&](int t) {
        if (t >= rows || spare(t) == 0) return;
        const float mine = b.template load<float>(t, remainder + t);
        offset_t better = 0;
        KVEVICT_ROLLED for (index_t i = 0; i < rows; ++i) {
          const float other = b.template load<float>(t, remainder + i);
          better += other > mine || (other == mine && i < t);
        }
        if (better < left) ++share[t];
      });
      return;
    }
    const row_threshold limit = find_threshold(b, remainder, rows, static_cast<index_t>(left), m);
    const auto key = [&](int t, index_t i) { return radix_key(b.template load<float>(t, remainder + i)); };
    in_order([&](int t, index_t i) { return offset_t{key(t, i) == limit.key}; },
             [&](int t, index_t i, offset_t tie, offset_t ties_before) {
               if (key(t, i) > limit.key || (tie != 0 && ties_before < limit.ties)) ++share[i];
             });
    left = 0;
  }
}

}  // namespace kvevict::detail
