// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstdint>
#include <set>
#include <string>

#include "choices.hpp"

/// The life of a cache as bytes choose it, and what must hold at every step. A fuzzer hands in bytes, a test hands in
/// seeds; `run_life` throws where a property is violated.
///
///     policy x memory x element x extents x budget x protection x pieces of the prompt x decode schedule x values
namespace properties {

/// Memory of an engine: a ragged cache per head, or blocks of a pool, or slots in any order.
enum class memory_kind { flat, paged, swapped };

template <class E, memory_kind Kind>
class engine_memory {
 public:
  engine_memory(const cache_shape& shape, index_t capacity, index_t dim, index_t block_size)
      : shape_(shape),
        capacity_(capacity),
        dim_(dim),
        block_(block_size),
        blocks_((capacity + block_size - 1) / block_size) {
    const auto rows = std::size_t(shape.rows());
    lengths.assign(rows, 0);
    for (std::size_t r = 0; r <= rows; ++r) offsets_.push_back(offset_t(r) * capacity);
    if (Kind == memory_kind::paged) {
      table_.assign(rows * std::size_t(blocks_), -1);
      held_.assign(rows, 0);
      for (index_t b = index_t(rows) * blocks_; b > 0; --b) unused_.push_back(b - 1);
      std::shuffle(unused_.begin(), unused_.end(), std::mt19937(unsigned(capacity)));
      keys = values = host::poisoned<E>(offset_t(rows) * blocks_ * block_ * dim);
    } else {
      keys = values = host::poisoned<E>(offset_t(rows) * capacity * dim);
      for (std::size_t r = 0; r < rows; ++r)
        for (index_t k = 0; k < capacity; ++k) order_.push_back(k);
    }
  }
  [[nodiscard]] auto physical() {
    if constexpr (Kind == memory_kind::paged) {
      const paged layout = paged_per_row(table_.data(), blocks_, block_, dim_);
      return cache{shape_, lengths.data(), entries{keys.data(), layout, dim_}, entries{values.data(), layout, dim_}};
    } else {
      const flat layout{offsets_.data(), dim_};
      return cache{shape_, lengths.data(), entries{keys.data(), layout, dim_}, entries{values.data(), layout, dim_}};
    }
  }
  [[nodiscard]] auto view() {
    if constexpr (Kind == memory_kind::swapped)
      return in_token_order(physical(), order());
    else
      return physical();
  }
  void reserve(index_t more) {
    if constexpr (Kind == memory_kind::paged)
      for (std::size_t r = 0; r < held_.size(); ++r)
        for (; held_[r] * block_ < lengths[r] + more; ++held_[r]) {
          require(!unused_.empty(), "the pool has blocks for every row");
          table_[r * std::size_t(blocks_) + std::size_t(held_[r])] = unused_.back();
          unused_.pop_back();
        }
  }
  template <class Side>
  void shrink(const selection& kept, const Side& side_of_state) {
    const status s = [&] {
      if constexpr (Kind == memory_kind::swapped)
        return swap_fill(cpu{}, physical(), order(), kept, side_of_state);
      else
        return compact_in_place(cpu{}, physical(), kept, side_of_state);
    }();
    require(s.ok(), "a valid selection compacts");
    retained_lengths(kept, lengths.data());
    if constexpr (Kind == memory_kind::paged) {
      std::vector<index_t> freed(table_.size());
      offset_t count = 0;
      const paged layout = paged_per_row(table_.data(), blocks_, block_, dim_);
      require(free_blocks(layout, shape_, lengths.data(), 0, {held_.data()}, freed, count).ok(), "blocks are freed");
      unused_.insert(unused_.end(), freed.begin(), freed.begin() + count);
      std::multiset<index_t> all(unused_.begin(), unused_.end());
      for (std::size_t r = 0; r < held_.size(); ++r) {
        require(held_[r] == (lengths[r] + block_ - 1) / block_, "a row keeps as many blocks as it needs");
        for (index_t b = 0; b < held_[r]; ++b) all.insert(table_[r * std::size_t(blocks_) + std::size_t(b)]);
      }
      index_t next = 0;
      for (const index_t id : all) require(id == next++, "every block is held or unused, exactly once");
      require(next == index_t(table_.size()), "no block is lost");
    }
  }

  std::vector<index_t> lengths;
  std::vector<E> keys, values;

 private:
  [[nodiscard]] token_order order() { return {order_.data(), hnd(1, shape_.kv_heads, capacity_, 1)}; }

  cache_shape shape_;
  index_t capacity_, dim_, block_, blocks_;
  std::vector<offset_t> offsets_;
  std::vector<index_t> table_, held_, unused_, order_;
};

/// What every selection must be.
template <class Policy, class Memory>
void check_selection(const Policy& policy, Memory& memory, const cache_shape& shape, index_t prompt,
                     const selection& kept) {
  constexpr bool joint = decltype(policy.rule())::joint;
  offset_t total = 0, nominal_total = 0, length_total = 0;
  for (index_t r = 0; r < shape.rows(); ++r) {
    const row_id row = shape.row(r);
    const index_t length = memory.lengths[std::size_t(r)];
    const offset_t nominal =
        policy.rule().nominal(shape, {row, prompt, policy.protection().of(prompt, prompt).count()});
    const protected_slots safe = policy.protection().of(length, index_t(std::min<offset_t>(nominal, 1 << 30)));
    index_t last = -1, in_front = 0, at_end = 0;
    for (const index_t slot : kept[r]) {
      require(slot > last && slot < length, "retained slots ascend inside their row");
      last = slot;
      in_front += slot < safe.sinks;
      at_end += slot >= length - safe.recent;
    }
    require(in_front == safe.sinks && at_end >= safe.recent, "protected slots stay");
    if (!joint) require(kept[r].size() == std::min<offset_t>(nominal, length), "the budget is exact");
    total += kept[r].size();
    nominal_total += nominal;
    length_total += length;
    if (row.kv_head == shape.kv_heads - 1) {
      if (joint) require(total == std::min(nominal_total, length_total), "the pool's budget is exact");
      total = nominal_total = length_total = 0;
    }
    ++selections;
  }
}

template <class E, memory_kind Kind, class Policy>
void run_life_of(choices& c, const Policy& policy, const cache_shape& shape, index_t group, index_t dim) {
  const index_t prompt = c.between(1, 90), tokens = prompt + c.between(0, 40), every = c.between(1, 9);
  const auto rows = std::size_t(shape.rows());
  std::vector<std::vector<E>> keys(rows), values(rows);
  std::vector<float> queries(rows * std::size_t(group * tokens * dim));
  for (std::size_t r = 0; r < rows; ++r)
    for (index_t i = 0; i < tokens * dim; ++i) {
      keys[r].push_back(host::element<E>(c.number()));
      values[r].push_back(host::element<E>(c.number()));
    }
  for (float& x : queries) x = c.number();

  engine_memory<E, Kind> memory(shape, tokens, dim, c.between(1, 9));
  std::vector<std::vector<index_t>> cached(rows);  // the tokens that must be there
  const sequence_extent extent{.shape = shape,
                               .capacity = tokens,
                               .query_heads = shape.kv_heads * group,
                               .head_dim = dim,
                               .prompt_length = prompt};
  std::vector<cache_line> state_memory(cache_lines(state_bytes(policy, extent)));
  const decode_state state{workspace_of(state_memory)};
  require(start(policy, extent, state).ok(), "a state starts");

  const auto evict_now = [&] {
    const inputs in{memory.view()};
    const auto slots_needed = std::size_t(selection_capacity(policy, state, in));
    std::vector<index_t> slots_of(slots_needed, -7), again(slots_needed, -7);
    std::vector<offset_t> offsets(rows + 1, -7), offsets_again(rows + 1, -7);
    const selection kept{slots_of, offsets};
    host::scratch work(workspace_bytes(cpu{}, policy, state, in));  // filled with 0xFF
    const auto keys_before = memory.keys;
    const auto state_before = state_memory;
    const status s = evict(cpu{}, policy, state, in, kept, work.get());
    require(std::memcmp(keys_before.data(), memory.keys.data(), keys_before.size() * sizeof(E)) == 0 &&
                std::memcmp(state_before.data(), state_memory.data(), state_before.size() * 64) == 0,
            "selecting changes neither the cache nor the state");
    if (!s.ok()) {
      require(s.code == status_code::bad_budget, "only a budget can be refused");
      require(slots_of == std::vector<index_t>(slots_needed, -7) && offsets == std::vector<offset_t>(rows + 1, -7),
              "a refused call writes nothing");
      return false;
    }
    std::vector<cache_line> zeros(cache_lines(workspace_bytes(cpu{}, policy, state, in)), cache_line{});
    require(evict(cpu{}, policy, state, in, {again, offsets_again}, workspace_of(zeros)).ok() && again == slots_of &&
                offsets_again == offsets,
            "what the workspace held before does not matter");
    check_selection(policy, memory, shape, prompt, kept);
    for (std::size_t r = 0; r < rows; ++r) {
      std::vector<index_t> left;
      for (const index_t slot : kept[index_t(r)]) left.push_back(cached[r][std::size_t(slot)]);
      cached[r] = left;
    }
    memory.shrink(kept, side(state));
    const auto view = memory.view();
    for (std::size_t r = 0; r < rows; ++r) {
      const row_id row = shape.row(index_t(r));
      require(std::ranges::equal(state.positions(row), cached[r]),
              "the state's positions are those of the cached tokens");
      for (std::size_t k = 0; k < cached[r].size(); ++k)
        for (index_t d = 0; d < dim; ++d) {
          const auto from = std::size_t(cached[r][k] * dim + d);
          require(host::same_bits<E>(*view.keys().at(row, index_t(k), d), keys[r][from]) &&
                      host::same_bits<E>(*view.values().at(row, index_t(k), d), values[r][from]),
                  "entries move byte by byte");
        }
    }
    return true;
  };

  index_t since = 0;
  for (index_t seen = 0; seen < tokens;) {
    const index_t n = seen < prompt ? std::min(c.between(1, 90), prompt - seen) : 1;
    memory.reserve(n);
    std::vector<E> new_keys, new_values;
    for (std::size_t r = 0; r < rows; ++r) {
      new_keys.insert(new_keys.end(), keys[r].begin() + seen * dim, keys[r].begin() + (seen + n) * dim);
      new_values.insert(new_values.end(), values[r].begin() + seen * dim, values[r].begin() + (seen + n) * dim);
      for (index_t t = seen; t < seen + n; ++t) cached[r].push_back(t);
    }
    const strided order = hnd(1, shape.kv_heads, n, dim);
    const cache added{shape, n, entries{new_keys.data(), order, dim}, entries{new_values.data(), order, dim}};
    require(append(cpu{}, added, memory.physical(), memory.lengths).ok(), "there is room for every token");
    const inputs in{memory.view(),
                    query_view{entries{queries.data() + seen * dim, hnd(1, shape.kv_heads * group, tokens, dim), dim},
                               shape.kv_heads * group, n}};
    host::scratch work(workspace_bytes(cpu{}, policy, state, in));
    require(observe(cpu{}, policy, state, in, work.get()).ok(), "new tokens are observed");
    seen += n;
    require(state.seen() == seen, "the state counts the tokens");
    if (++since >= every || seen == prompt) {
      since = 0;
      if (!evict_now()) return;
    }
  }
}

template <class E, memory_kind Kind>
void run_life_in(choices& c) {
  const cache_shape shape{c.between(1, 2), 1, c.between(1, 3)};
  const index_t group = c.between(1, 2), dim = 2 * c.between(1, 4), window = c.between(1, 12);
  const amount budget = c.one_in(4) ? percent(c.between(1, 100)) : slots(c.between(1, 50));
  const index_t sinks = c.between(0, 3), recent = c.one_in(2) ? as_window : c.between(0, 9);
  const double floor = c.between(0, 10) / 10.0;
  const auto kind = c.one_in(2) ? budget::safeguard::mixture : budget::safeguard::minimum;
  const auto live = [&](const auto& policy) { run_life_of<E, Kind>(c, policy, shape, group, dim); };
  switch (c.between(0, 7)) {
    case 0:
      return live(h2o{.budget = budget, .sinks = sinks});
    case 1:
      return live(snapkv<>{.budget = budget, .window = window, .sinks = sinks, .recent = recent});
    case 2:
      return live(ahakv<>{.budget = budget, .window = window, .sinks = sinks, .recent = recent});
    case 3:
      return live(keydiff{.budget = budget, .sinks = sinks, .recent = std::max(0, recent)});
    case 6:
      return live(decayed_keydiff{
          .budget = budget, .window = window, .decay = 3, .recent = slots(std::max(0, recent)), .sinks = sinks});
    case 4:
      return live(nacl{.budget = budget, .window = window, .sinks = sinks, .recent = recent});
    case 5:
      return live(adakv{ahakv<>{.budget = budget, .window = window, .sinks = sinks, .recent = recent}, floor, kind});
    default:
      return live(adakv{knorm{.budget = budget, .sinks = sinks, .recent = std::max(0, recent)}, floor, kind});
  }
}

/// One life, as the bytes choose it.
inline void run_life(const std::uint8_t* data, std::size_t size) {
  choices c(data, size);
  switch (c.between(0, 2)) {
    case 0:
      return run_life_in<float, memory_kind::flat>(c);
    case 1:
      return run_life_in<half, memory_kind::paged>(c);
    default:
      return run_life_in<bfloat16, memory_kind::swapped>(c);
  }
}

}  // namespace properties
