// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/budget/rule.hpp>
#include <kvevict/core/types.hpp>

namespace kvevict::budget {

/// The two published readings of Ada-KV's safeguard.
enum class safeguard { mixture, minimum };

/// Ada-KV's head-wise budgets over any base rule (arXiv 2407.11550): the rows of a pool put their free budgets
/// together and the highest scores of all of them decide who gets how much.
///
///     b_r   nominal budget of row r (base rule)         p_r   protected slots of row r
///     F     sum of b_r - p_r over the pool, at most its evictable slots
///     c_r   slots of row r among the F highest evictable ones
///
///     mixture   p_r + (1 - floor) c_r + floor (b_r - p_r), rounded by largest remainder     (the authors' code)
///     minimum   the F highest scores, but at least max(p_r, floor b_r) slots for each row   (kvpress 0.5.5)
///
/// Totals are exact: the pool keeps the sum of its nominal budgets, or everything. The authors round each head on its
/// own, so their totals drift (97 of 99). Among all splits of a total the joint one keeps the most score mass, which
/// minimises the paper's bound on the output error (theorems 3.1 and 3.2). Equal scores: the smaller row, then the
/// smaller slot. A pool is the kv_heads of one (layer, sequence), or what `budget_pool_view` says.
///
/// A row may hold fewer slots than its share, along decode most often: budgets are shared anew at each eviction, and
/// a head that got little before cannot get back what it lost. It keeps all it has; the rest goes to the others one
/// slot at a time, in the order of their remainders. (The paper shares once, after the prompt.)
template <rule Base>
struct adaptive {
  static constexpr bool joint = true;
  static_assert(!Base::joint, "kvevict: an adaptive budget needs a base rule that is not adaptive itself");

  Base base{};
  double floor = 0.2;  ///< 0 .. 1
  safeguard kind = safeguard::mixture;
  friend constexpr bool operator==(const adaptive&, const adaptive&) = default;

  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr offset_t nominal(const cache_shape& shape, const row_extent& e) const {
    return base.nominal(shape, e);
  }
  [[nodiscard]] constexpr status check() const {
    if (!(floor >= 0 && floor <= 1)) return {status_code::bad_option, "floor", "floor must be a share from 0 to 1"};
    return base.check();
  }
};

template <class Base>
adaptive(Base) -> adaptive<Base>;
template <class Base>
adaptive(Base, double) -> adaptive<Base>;
template <class Base>
adaptive(Base, double, safeguard) -> adaptive<Base>;

/// The mixture of one row before rounding, in millionths of a slot: integers, so every backend agrees.
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr offset_t mixture_millionths(offset_t adaptive_share, offset_t uniform_share,
                                                                        std::int32_t floor_millionths) {
  return (1000000 - floor_millionths) * adaptive_share + floor_millionths * uniform_share;
}

}  // namespace kvevict::budget
