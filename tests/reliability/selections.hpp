// SPDX-License-Identifier: MIT
#pragma once

#include <bit>
#include <utility>

#include "choices.hpp"

/// Selections by scores that are given, as bytes choose them, and what must hold of every one; `run_selection` throws
/// where a property is violated. Far cheaper than a cache's whole life, so there can be far more.
///
///     extents x lengths x kinds of scores x budget x protection x budget rule
namespace properties {

/// Scores of one kind: with many ties, with few, in order, of any bits.
inline void fill_scores(choices& c, float* scores, index_t count) {
  const index_t kind = c.between(0, 6);
  const float base = c.number();
  for (index_t j = 0; j < count; ++j) {
    const std::uint32_t bits = c.bits();
    scores[j] = kind == 0   ? c.number()
                : kind == 1 ? float(bits % 4)
                : kind == 2 ? std::bit_cast<float>(bits)  // NaN, infinities and subnormals among them
                : kind == 3 ? base
                : kind == 4 ? float(j)
                : kind == 5 ? -float(j / 3)
                            : std::ldexp(float(bits % 1000), int(bits >> 10) % 60 - 50);
  }
}

/// A slot among those of its pool: of two the one that is kept first is less.
struct place {
  std::int32_t key = 0;
  index_t row = 0, slot = 0;
  [[nodiscard]] bool before(const place& other) const {
    return std::tuple(-std::int64_t{key}, row, slot) < std::tuple(-std::int64_t{other.key}, other.row, other.slot);
  }
};

/// What a selection says of one row.
struct row_outcome {
  index_t nominal = 0, length = 0, retained = 0;
  protected_slots safe;
  bool any_retained = false, any_evicted = false;  ///< among the evictable
  place last_retained, first_evicted;

  [[nodiscard]] index_t free_budget() const { return nominal - safe.count(); }
};

/// Ascending, inside the row, protected slots among them, and no evicted slot better than a retained one.
inline row_outcome outcome_of(const row_scores& in, index_t r, index_t nominal, const protect& protection,
                              const span<const index_t>& kept) {
  row_outcome o;
  o.nominal = nominal;
  o.length = in.scores.length(r);
  o.retained = index_t(kept.size());
  o.safe = protection.of(o.length, nominal);
  index_t next = 0;
  for (index_t slot = 0; slot < o.length; ++slot) {
    const bool stays = next < o.retained && kept[next] == slot;
    next += stays ? 1 : 0;
    if (slot < o.safe.sinks || slot >= o.length - o.safe.recent) {
      require(stays, "protected slots stay");
      continue;
    }
    const place here{order_key(in.scores[r][slot]), r, slot};
    if (stays && (!o.any_retained || o.last_retained.before(here))) o.last_retained = here;
    if (!stays && (!o.any_evicted || here.before(o.first_evicted))) o.first_evicted = here;
    (stays ? o.any_retained : o.any_evicted) = true;
  }
  require(next == o.retained, "retained slots ascend inside their row");
  if (o.any_retained && o.any_evicted)
    require(o.last_retained.before(o.first_evicted), "no evicted slot is better than a retained one of its row");
  return o;
}

/// What joint budgets promise, over the rows of one pool.
inline void check_pool(const span<const row_outcome>& rows, index_t floor_tenths, budget::safeguard kind) {
  offset_t retained = 0, nominal = 0, length = 0;
  for (const row_outcome& o : rows) {
    retained += o.retained;
    nominal += o.nominal;
    length += o.length;
  }
  require(retained == std::min(nominal, length), "the pool's budget is exact");
  for (const row_outcome& a : rows) {
    if (kind == budget::safeguard::mixture) {
      const index_t share = index_t(offset_t{a.free_budget()} * floor_tenths / 10);
      require(a.retained >= std::min(a.length, a.safe.count() + share), "the mixture gives each row its uniform part");
      continue;
    }
    const index_t floor = index_t(offset_t{a.nominal} * floor_tenths / 10);
    require(a.retained >= std::min(a.length, std::max(floor, a.safe.count())), "each row keeps the safeguard's share");
    if (!a.any_retained || a.retained <= floor) continue;
    for (const row_outcome& b : rows)
      if (b.any_evicted)
        require(a.last_retained.before(b.first_evicted),
                "no evicted slot of a pool is better than one kept for its score");
  }
}

/// One selection, as the bytes choose it.
inline void run_selection(const std::uint8_t* data, std::size_t size) {
  choices c(data, size);
  const cache_shape shape{c.between(1, 2), c.between(1, 2), c.between(1, 4)};
  const index_t rows = index_t(shape.rows()), most = c.one_in(6) ? 700 : c.one_in(2) ? 100 : 33;
  static std::vector<offset_t> offsets, kept_offsets;
  static std::vector<float> scores;
  static std::vector<index_t> kept_slots;
  static std::vector<cache_line> scratch;
  offsets.assign(1, 0);
  for (index_t r = 0; r < rows; ++r) offsets.push_back(offsets.back() + c.between(1, most));
  scores.resize(std::size_t(offsets.back()));
  for (index_t r = 0; r < rows; ++r)
    fill_scores(c, scores.data() + offsets[std::size_t(r)],
                index_t(offsets[std::size_t(r) + 1] - offsets[std::size_t(r)]));
  const row_scores in{shape, {scores.data(), offsets.data(), rows}};
  const protect protection{c.between(0, 3), c.one_in(3) ? percent(c.between(0, 60)) : slots(c.between(0, 6))};
  const budget::uniform base{c.one_in(3) ? percent(c.between(1, 100)) : slots(c.between(1, most))};
  const index_t floor_tenths = c.between(0, 10);
  const auto kind = c.one_in(2) ? budget::safeguard::mixture : budget::safeguard::minimum;

  const auto select_with = [&](const auto& policy) {
    constexpr bool joint = std::remove_cvref_t<decltype(policy.rule())>::joint;
    kept_slots.assign(scores.size(), -7);
    kept_offsets.assign(std::size_t(rows) + 1, -7);
    const selection kept{kept_slots, kept_offsets};
    scratch.resize(cache_lines(workspace_bytes(cpu{}, policy, in)));
    const auto select_over = [&](int filling) {
      std::memset(static_cast<void*>(scratch.data()), filling, scratch.size() * sizeof(cache_line));
      return select(cpu{}, policy, in, kept, workspace_of(scratch));
    };
    const status s = select_over(0xff);
    if (!s.ok()) {
      require(s.code == status_code::bad_budget, "only a budget can be refused");
      for (const offset_t at : kept_offsets) require(at == -7, "a refused call writes nothing");
      return;
    }
    row_outcome outcomes[16];
    for (index_t r = 0; r < rows; ++r) {
      const row_id row = shape.row(r);
      const index_t length = in.scores.length(r);
      const offset_t nominal = policy.rule().nominal(shape, {row, length, protection.of(length, length).count()});
      outcomes[r] = outcome_of(in, r, index_t(nominal), protection, kept[r]);
      if constexpr (!joint) require(kept[r].size() == std::min<offset_t>(nominal, length), "the budget is exact");
    }
    if constexpr (joint)
      for (index_t r = 0; r < rows; r += shape.kv_heads) check_pool({outcomes + r, shape.kv_heads}, floor_tenths, kind);
    selections += std::uint64_t(rows);
    if (!c.one_in(8)) return;
    const std::vector<index_t> before = kept_slots;
    require(select_over(0).ok() && kept_slots == before, "what the workspace held before does not matter");
  };
  if (c.one_in(2))
    select_with(host::composed{score::recency{}, base, protection});
  else
    select_with(host::composed{score::recency{}, budget::adaptive{base, floor_tenths / 10.0, kind}, protection});
}

}  // namespace properties
