// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/kvevict.hpp>
#include <kvevict/view/row_scores.hpp>
#include <string>
#include <vector>

/// What the two compilers share of the tests of selection and of refusals: on_device_select.cpp and
/// on_device_refused.cpp know what must come out, on_device_select.cu and on_device_refused.cu run the device.
namespace on_device {

using kvevict::index_t;
using kvevict::offset_t;

/// Whether there is a device.
bool found();
/// Its name, driver and runtime.
std::string description();

/// Scores that are given, and pools of the caller's own where there are any.
struct scored_rows {
  kvevict::cache_shape shape;
  std::vector<offset_t> offsets{0};
  std::vector<float> scores;
  std::vector<index_t> pool_of_row{};
  index_t pools = 0;
  offset_t entry_bytes = 512;
};

struct selected {
  std::string wrong;  ///< what went wrong, or nothing
  std::vector<offset_t> offsets;
  std::vector<index_t> slots;  ///< as many as there are scores; what was not written is -1
  std::vector<kvevict::row_receipt> receipts;
};

/// Selects into `room` slots, plainly and replayed.
template <class Policy>
[[nodiscard]] selected select(const Policy& policy, const scored_rows& in, offset_t room, int runs);

/// Calls with arguments of the host's, which no device may read: they must be refused before.
struct calls {
  template <class Policy, class Inputs>
  static kvevict::status evict(index_t longest, const Policy&, const Inputs&, const kvevict::selection&,
                               const kvevict::workspace&);
  template <class Policy, class Inputs>
  static kvevict::status score_rows(index_t longest, const Policy&, const Inputs&, const kvevict::ragged<float>&,
                                    const kvevict::workspace&);
  template <class Policy, class Inputs>
  static offset_t workspace_bytes(index_t longest, const Policy&, const Inputs&);

  static kvevict::status select(const kvevict::row_scores&, const kvevict::selection&, const kvevict::workspace&);
  static offset_t workspace_bytes(const kvevict::row_scores&);

  template <class Cache>
  static kvevict::status gather(const Cache& from, const kvevict::selection&, const Cache& to,
                                const kvevict::side_array<index_t>&);
  template <class Cache>
  static kvevict::status compact_in_place(const Cache&, const kvevict::selection&, const kvevict::side_array<index_t>&);
  template <class Cache>
  static kvevict::status swap_fill(const Cache&, const kvevict::token_order&, const kvevict::selection&,
                                   const kvevict::workspace&);
  static kvevict::status retained_lengths(const kvevict::selection&, index_t* lengths);
};

/// What became of an error of the caller's that was there before the calls; nothing where it still is.
[[nodiscard]] std::string after_refused_allocation(const scored_rows& in);
/// The same after an error that the context does not survive; only in a process of its own.
[[nodiscard]] std::string after_broken_context(const scored_rows& in);

}  // namespace on_device
