// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <kvevict/compact/rope.hpp>
#include <kvevict/cpu/backend.hpp>
#include <kvevict/view/check.hpp>
#include <kvevict/view/inputs.hpp>
#include <type_traits>

namespace kvevict {
namespace detail {

template <class Element>
[[nodiscard]] Element from_float(float x) {
  if constexpr (std::is_same_v<Element, float>)
    return x;
  else if constexpr (std::is_same_v<Element, half>)
    return to_half(x);
  else
    return to_bfloat16(x);
}

}  // namespace detail

/// Turns the cached keys from the positions they were written at to others, in place: for engines that close the gaps
/// which an eviction leaves in the positions. Optional; without it keys keep the positions that their tokens had.
///
/// Key of slot j, pair i: turned by (to[j] - from[j]) * frequencies[i], angles and their sines in double, the result
/// rounded once to the element. A slot whose position stays is not touched. fp32, fp16 and bf16 keys.
template <class Executor, cache_view Cache>
status rotate_keys(const cpu<Executor>& on, const Cache& cache, const rope& embedding, const position_view& from,
                   const position_view& to) {
  using element = element_of<std::remove_cvref_t<decltype(cache.keys())>>;
  static_assert(std::is_same_v<element, float> || std::is_same_v<element, half> || std::is_same_v<element, bfloat16>,
                "kvevict: rotate_keys writes keys of float, kvevict::half or kvevict::bfloat16");
  if (const status s = check(cache); !s.ok()) return s;
  if (const status s = embedding.check(cache.keys().dims()); !s.ok()) return s;
  if (from.data == nullptr) return {status_code::bad_pointer, "from", "the present positions are null"};
  if (to.data == nullptr) return {status_code::bad_pointer, "to", "the new positions are null"};
  const cache_shape shape = cache.shape();
  const index_t pairs = embedding.rotary_dims / 2;
  const bool split = embedding.pairs == rope_pairs::half_split;
  on.how.run(static_cast<index_t>(shape.rows()), [&](index_t r, index_t) {
    const row_id row = shape.row(r);
    const auto& keys = cache.keys();
    const row_positions before = from.of(row), after = to.of(row);
    for (index_t j = 0; j < cache.length(row); ++j) {
      const offset_t distance = static_cast<offset_t>(after(j)) - before(j);
      if (distance == 0) continue;
      for (index_t i = 0; i < pairs; ++i) {
        const double angle = static_cast<double>(distance) * embedding.frequencies[i];
        const double c = std::cos(angle), s = std::sin(angle);
        const index_t first = split ? i : 2 * i, second = split ? i + pairs : 2 * i + 1;
        const double x = keys(row, j, first), y = keys(row, j, second);
        *keys.at(row, j, first) = detail::from_float<element>(static_cast<float>(x * c - y * s));
        *keys.at(row, j, second) = detail::from_float<element>(static_cast<float>(x * s + y * c));
      }
    }
  });
  return {};
}

}  // namespace kvevict
