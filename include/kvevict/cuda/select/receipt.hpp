// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/detail/digits.hpp>
#include <kvevict/policy/plan.hpp>
#include <kvevict/select/selection.hpp>

namespace kvevict::detail {

/// The score that a key stands for; +0 for both zeros.
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr float score_of(std::uint32_t key) {
  const std::uint32_t number = key ^ 0x80000000u;
  if (number == 0x80000000u) return not_a_number();
  return bits_as<float>(number < 0x80000000u ? number : (0u - number) | 0x80000000u);
}

inline constexpr double no_key = 0x1p32;  ///< above all keys, which doubles hold

/// The receipt of the block's row, whose retained slots have been written. Sums run in double, in an order of their
/// own: the share may differ from the CPU's in the last bit.
template <class Block, class Shared>
KVEVICT_HOST_DEVICE void write_receipt(Block& b, const float* scores, const row_plan& plan, const index_t* retained,
                                       index_t kept, offset_t entry_bytes, row_receipt* out, const Shared& of_warps) {
  b.sync();
  auto all = b.template make_local<double>(), stays = all, before = all, refuses = all;
  auto lowest = b.template make_local<double>();  // of the keys of evictable slots
  b.each([&](int t) {
    all[t] = stays[t] = refuses[t] = 0;
    lowest[t] = no_key;
    // Several loads at a time, since one would wait for the one before.
    constexpr int at_once = 4;
    KVEVICT_ROLLED for (offset_t first = t; first < plan.length; first += at_once * b.threads()) {
      float score[at_once];
      KVEVICT_UNROLLED for (int k = 0; k < at_once; ++k) {
        const offset_t i = first + k * b.threads();
        score[k] = i < plan.length ? scores[i] : 0;
      }
      KVEVICT_UNROLLED for (int k = 0; k < at_once; ++k) {
        all[t] += static_cast<double>(score[k]);
        if (!(score[k] >= 0)) refuses[t] = 1;
      }
    }
    KVEVICT_ROLLED for (offset_t first = t; first < kept; first += at_once * b.threads()) {
      float score[at_once];
      KVEVICT_UNROLLED for (int k = 0; k < at_once; ++k) {
        const offset_t i = first + k * b.threads();
        score[k] = i < kept ? scores[retained[i]] : 0;
      }
      KVEVICT_UNROLLED for (int k = 0; k < at_once; ++k) {
        const offset_t i = first + k * b.threads();
        stays[t] += static_cast<double>(score[k]);
        if (i >= plan.kept.sinks && i < kept - plan.kept.recent)
          lowest[t] = least(lowest[t], static_cast<double>(radix_key(score[k])));
      }
    }
  });
  const double sum = exclusive_sums<double>(b, all, before, of_warps);
  const double sum_kept = exclusive_sums<double>(b, stays, before, of_warps);
  lowest = reduce_block(b, lowest, of_warps, [](double x, double y) { return least(x, y); });
  const bool shares = exclusive_sums<double>(b, refuses, before, of_warps) == 0 && sum > 0;
  b.each([&](int t) {
    if (t != 0) return;
    row_receipt receipt{.retained = kept, .evicted = plan.length - kept};
    receipt.bytes_freed = receipt.evicted * entry_bytes;
    const bool has_threshold = receipt.evicted > 0 && lowest[t] < no_key;
    receipt.threshold = has_threshold ? score_of(static_cast<std::uint32_t>(lowest[t])) : not_a_number();
    receipt.score_share = receipt.evicted == 0 ? 1.0F : shares ? static_cast<float>(sum_kept / sum) : not_a_number();
    *out = receipt;
  });
}

}  // namespace kvevict::detail
