// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <kvevict/compact/rope.hpp>
#include <kvevict/core/element.hpp>
#include <kvevict/view/entries.hpp>

namespace kvevict::detail {

/// Turns one key by so many positions, in place: angles and their sines in double, the result rounded once to the
/// element. A key whose position stays is not touched.
template <class Keys>
void turn_key(const Keys& keys, const rope& embedding, const row_id& row, index_t slot, offset_t distance) {
  if (distance == 0) return;
  const index_t pairs = embedding.rotary_dims / 2;
  const bool split = embedding.pairs == rope_pairs::half_split;
  for (index_t i = 0; i < pairs; ++i) {
    const double angle = static_cast<double>(distance) * embedding.frequencies[i];
    const double c = std::cos(angle), s = std::sin(angle);
    const index_t first = split ? i : 2 * i, second = split ? i + pairs : 2 * i + 1;
    const double x = keys(row, slot, first), y = keys(row, slot, second);
    *keys.at(row, slot, first) = from_float<element_of<Keys>>(static_cast<float>(x * c - y * s));
    *keys.at(row, slot, second) = from_float<element_of<Keys>>(static_cast<float>(x * s + y * c));
  }
}

}  // namespace kvevict::detail
