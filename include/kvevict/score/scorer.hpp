// SPDX-License-Identifier: MIT
#pragma once

#include <concepts>
#include <kvevict/core/shape.hpp>
#include <kvevict/core/status.hpp>
#include <kvevict/view/inputs.hpp>
#include <type_traits>

/// A score says how much a slot matters to its row: higher = keep. NaN ranks below every number.
///
///     scorer = source | stage | stage ...
///
///     source   cache and inputs -> scores, per kv_head [length] or per query_head [group_size][length]
///     stage    scores -> scores: group reduction, pooling, prior, normalisation ...
///
/// @code
/// auto scorer = score::observation_window(32) | score::group_mean{} | score::avg_pool{.width = 5};
/// @endcode
///
/// Everything here describes; the loops are in `cpu/score/` under the same file names.
namespace kvevict::score {

/// What a source or stage knows about the row it works on.
struct row_context {
  row_id row;
  index_t length = 0;      ///< slots of the row
  index_t seen = 0;        ///< tokens of the sequence, evicted ones included; the newest query row is number seen - 1
  index_t budget = 0;      ///< nominal budget of the row: what the budget rule gives before heads share
  index_t sinks = 0;       ///< protected slots at the front
  index_t recent = 0;      ///< protected slots at the end
  index_t group_size = 1;  ///< query_heads per kv_head; 1 where the inputs have no query_heads
};

/// A source of scores. `per_query_head` says which of the two shapes it gives.
template <class S>
concept source = std::is_trivially_copyable_v<S> && requires {
  { S::per_query_head } -> std::convertible_to<bool>;
};

/// A stage that changes scores in place; `reduces_group` turns [group_size][length] into [length].
template <class S>
concept stage = std::is_trivially_copyable_v<S> && requires {
  { S::reduces_group } -> std::convertible_to<bool>;
};

template <source Source, stage Stage>
struct pipe;

/// Whether a scorer ends in a stage that crosses the kv_heads of a layer; such a stage must be the last.
template <class S>
inline constexpr bool layer_wide = false;
template <class Source, class Stage>
inline constexpr bool layer_wide<pipe<Source, Stage>> = requires {
  Stage::crosses_rows;
};

/// Whether the options of a description are in range; one without options has nothing to check.
template <class Description>
[[nodiscard]] constexpr status check(const Description& d) {
  if constexpr (requires { d.check(); })
    return d.check();
  else
    return {};
}

/// A source followed by a stage, itself a source.
template <source Source, stage Stage>
struct pipe {
  static constexpr bool per_query_head = Source::per_query_head && !Stage::reduces_group;
  static_assert(Source::per_query_head || !Stage::reduces_group,
                "kvevict: a group reduction needs scores per query_head; this source already has one per kv_head");

  static_assert(!layer_wide<Source>, "kvevict: score::layer_mean crosses rows and must be the last stage of a scorer");

  Source source;
  Stage stage;

  friend constexpr bool operator==(const pipe&, const pipe&) = default;

  [[nodiscard]] constexpr status check() const {
    const status first = score::check(source);
    return first.ok() ? score::check(stage) : first;
  }
};

template <source Source, stage Stage>
[[nodiscard]] constexpr pipe<Source, Stage> operator|(const Source& from, const Stage& to) {
  return {from, to};
}

/// Calls f with every source of a scorer: what stands at the front of its pipes, in both sides of a combination.
template <class S, class F>
constexpr void each_source(const S& s, F&& f) {
  if constexpr (requires {
                  s.source;
                  s.stage;
                }) {
    each_source(s.source, f);
  } else if constexpr (requires { requires source<decltype(s.a)> && source<decltype(s.b)>; }) {
    each_source(s.a, f);
    each_source(s.b, f);
  } else {
    f(s);
  }
}

/// A width that has a centre.
[[nodiscard]] constexpr status odd_width(index_t width, const char* argument) {
  if (width >= 1 && width % 2 == 1) return {};
  return {status_code::bad_option, argument, "a pooling width must be odd and at least 1"};
}

}  // namespace kvevict::score
