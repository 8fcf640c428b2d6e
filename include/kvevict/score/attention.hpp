// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <kvevict/score/gain.hpp>
#include <kvevict/score/scorer.hpp>
#include <limits>

/// Attention that slots received from the last rows, per query_head:
///
///     s[j] = norm_j * sum over rows i of weight(i) a[i, j]        i among the last `window` rows, j visible to i
///
///     a[i, j] = softmax over all slots that row i sees of gain(i) * q_i . k_j / sqrt(head_dim)
///
/// The softmax includes the window's own slots and is not renormalised (SnapKV, Ada-KV, PyramidKV and TOVA agree).
/// Reads queries and keys, or the engine's attention probabilities where they are given and the gain is plain;
/// a log-sum-exp, where given and the gain is plain, saves the normalising pass. A row none of whose visible slots is
/// cached any more gives 0, one that sees a key with NaN gives NaN to all slots. Exponentials are taken block by block:
/// equal keys of two blocks may differ in the last bit, and then they do not tie.
namespace kvevict::score {

/// Every row that the inputs hold.
inline constexpr index_t all_rows = std::numeric_limits<index_t>::max();

/// Row weights. `age` is 0 for the newest row.
struct equal_rows {
  friend constexpr bool operator==(const equal_rows&, const equal_rows&) = default;
  [[nodiscard]] KVEVICT_HOST_DEVICE double operator()(offset_t /*age*/) const { return 1.0; }
};

/// exp(-age / length): a soft window.
struct decayed_rows {
  double length = 512;
  friend constexpr bool operator==(const decayed_rows&, const decayed_rows&) = default;
  [[nodiscard]] KVEVICT_HOST_DEVICE double operator()(offset_t age) const {
    return std::exp(-static_cast<double>(age) / length);
  }
  [[nodiscard]] constexpr status check() const {
    if (length > 0) return {};
    return {status_code::bad_option, "decay", "the decay length must be a number of rows above 0"};
  }
};

/// norm_j: 1; one over the sum of all rows' weights; one over the sum of the weights of the rows that see j.
enum class row_mean { none, all, visible };

template <class Gain = plain_gain, class Weight = equal_rows>
struct attention {
  static constexpr bool per_query_head = true;
  static constexpr bool reads_rows = true;  ///< along decode a state must remember rows for it (decode/state.hpp)
  using gain_type = Gain;

  index_t window = 32;  ///< observation window: rows that score; `all_rows` needs one query per slot
  row_mean mean = row_mean::none;
  Gain gain{};
  Weight weight{};

  friend constexpr bool operator==(const attention&, const attention&) = default;

  [[nodiscard]] constexpr status check() const {
    if (window < 1) return {status_code::bad_option, "window", "window must be at least one row"};
    const status first = score::check(gain);
    return first.ok() ? score::check(weight) : first;
  }
};

/// The last `window` rows, mean over rows (SnapKV).
[[nodiscard]] constexpr attention<> observation_window(index_t window) {
  return {.window = window, .mean = row_mean::all};
}

/// All rows (H2O): the sum, or with `row_mean::visible` the mean over the rows that see a slot. The sum favours
/// early slots: for exchangeable weights E[s_{j+1} - s_j] = -E[a_jj] < 0 (arXiv 2506.03762).
[[nodiscard]] constexpr attention<> accumulated_attention(row_mean mean = row_mean::none) {
  return {.window = all_rows, .mean = mean};
}

}  // namespace kvevict::score
