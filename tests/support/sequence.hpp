// SPDX-License-Identifier: MIT
#pragma once

#include <numeric>

#include "host.hpp"

/// An engine that decodes: tokens with keys, values and queries arrive, a ragged cache with slack holds what is left.
namespace host {

using kvevict::row_feed;

/// All tokens of a sequence, known beforehand.
struct tokens {
  kvevict::cache_shape shape;  ///< one sequence
  index_t group, count, dim, value_dim;
  std::vector<float> keys, values, queries;  ///< [rows or query rows][count][dim]

  tokens(index_t layers, index_t kv_heads, index_t g, index_t n, index_t d, index_t dv, unsigned seed = 1)
      : shape{layers, 1, kv_heads},
        group(g),
        count(n),
        dim(d),
        value_dim(dv),
        keys(normal(std::size_t(layers * kv_heads * n * d), seed, 1.3F)),
        values(normal(std::size_t(layers * kv_heads * n * dv), seed + 1)),
        queries(normal(std::size_t(layers * kv_heads * g * n * d), seed + 2, 1.3F)) {}

  [[nodiscard]] const float* key(index_t row, index_t t) const { return keys.data() + (row * count + t) * dim; }
  [[nodiscard]] const float* value(index_t row, index_t t) const {
    return values.data() + (row * count + t) * value_dim;
  }
  /// Query of one query_head of a row.
  [[nodiscard]] const float* query(index_t row, index_t g, index_t t) const {
    return queries.data() + ((row * group + g) * count + t) * dim;
  }
};

/// How an eviction makes room.
enum class compaction { stable, swapped };

template <class Policy, row_feed Feed = row_feed::queries>
class sequence {
 public:
  sequence(const tokens& from, const Policy& policy, index_t capacity, index_t prompt_length, index_t number = 0,
           compaction how = compaction::stable)
      : from_(&from), policy_(policy), capacity_(capacity), how_(how) {
    const kvevict::sequence_extent extent{.shape = from.shape,
                                          .capacity = capacity,
                                          .query_heads = from.shape.kv_heads * from.group,
                                          .head_dim = from.dim,
                                          .prompt_length = prompt_length,
                                          .sequence = number};
    memory_.resize(kvevict::cache_lines(kvevict::state_bytes<Feed>(policy, extent)));
    std::memset(static_cast<void*>(memory_.data()), 0xff, memory_.size() * sizeof(memory_[0]));
    check(kvevict::start(policy, extent, state()));
    const auto rows = std::size_t(from.shape.rows());
    for (std::size_t r = 0; r <= rows; ++r) offsets_.push_back(offset_t(r) * capacity);
    keys_.assign(rows * std::size_t(capacity * from.dim), NAN);
    values_.assign(rows * std::size_t(capacity * from.value_dim), NAN);
    order_.resize(rows * std::size_t(capacity));
    for (std::size_t i = 0; i < order_.size(); ++i) order_[i] = index_t(i) % capacity;
    lengths_.assign(rows, 0);
  }

  [[nodiscard]] kvevict::decode_state<Feed> state() { return kvevict::decode_state<Feed>{workspace_of(memory_)}; }
  [[nodiscard]] std::vector<kvevict::cache_line>& memory() { return memory_; }
  [[nodiscard]] Policy& policy() { return policy_; }
  [[nodiscard]] index_t length(index_t row) const { return lengths_[std::size_t(row)]; }
  [[nodiscard]] index_t seen() const { return seen_; }
  [[nodiscard]] const std::vector<float>& keys() const { return keys_; }

  /// The memory itself, and the same in token order.
  [[nodiscard]] auto physical() {
    return kvevict::cache{
        from_->shape, lengths_.data(),
        kvevict::entries{keys_.data(), kvevict::flat{offsets_.data(), from_->dim}, from_->dim},
        kvevict::entries{values_.data(), kvevict::flat{offsets_.data(), from_->value_dim}, from_->value_dim}};
  }
  [[nodiscard]] kvevict::token_order order() {
    return {order_.data(), kvevict::hnd(1, from_->shape.kv_heads, capacity_, 1)};
  }
  [[nodiscard]] auto cache() { return kvevict::in_token_order(physical(), order()); }

  /// Appends the next `n` tokens and observes them.
  void feed(index_t n) {
    using namespace kvevict;
    const index_t rows = index_t(from_->shape.rows());
    std::vector<index_t> added(std::size_t(rows), n);
    const auto part = [&](const std::vector<float>& x, index_t d) {
      return entries{const_cast<float*>(x.data()) + seen_ * d, hnd(1, from_->shape.kv_heads, from_->count, d), d};
    };
    // Behind a swapped row's last slot is still its end: appending needs no order.
    check(append(cpu{},
                 kvevict::cache{from_->shape, added.data(), part(from_->keys, from_->dim),
                                part(from_->values, from_->value_dim)},
                 physical(), lengths_));
    seen_ += n;
    const index_t query_heads = from_->shape.kv_heads * from_->group;
    if constexpr (Feed == row_feed::queries) {
      const inputs in{cache(), query_view{entries{from_->queries.data() + (seen_ - n) * from_->dim,
                                                  hnd(1, query_heads, from_->count, from_->dim), from_->dim},
                                          query_heads, n}};
      observe_with(in);
    } else {
      const std::vector<float> a = attention(n);
      const inputs in{cache(),
                      attention_view{entries{a.data(), hnd(1, query_heads, n, capacity_), capacity_}, query_heads, n}};
      observe_with(in);
    }
  }

  kept select() {
    using namespace kvevict;
    const inputs in{cache()};
    kept out;
    out.slots.assign(std::size_t(selection_capacity(policy_, state(), in)), -7);
    out.offsets.assign(lengths_.size() + 1, -7);
    out.receipts.resize(lengths_.size());
    scratch room(workspace_bytes(cpu{}, policy_, state(), in));
    out.status = kvevict::evict(cpu{}, policy_, state(), in, out.view(), room.get());
    return out;
  }
  /// Evicts to the budget; returns the positions that stay, per row.
  void evict() {
    using namespace kvevict;
    kept chosen = select();
    check(chosen.status);
    compact(chosen.view());
  }
  void compact(const kvevict::selection& chosen) {
    using namespace kvevict;
    if (how_ == compaction::stable)
      check(compact_in_place(cpu{}, physical(), chosen, side(state())));
    else
      check(swap_fill(cpu{}, physical(), order(), chosen, side(state())));
    retained_lengths(chosen, lengths_.data());
  }

  [[nodiscard]] std::vector<std::vector<index_t>> positions() {
    std::vector<std::vector<index_t>> out;
    for (index_t r = 0; r < from_->shape.rows(); ++r) {
      const auto p = state().positions(from_->shape.row(r));
      out.emplace_back(p.begin(), p.end());
    }
    return out;
  }

  /// What the engine's attention gives the last n tokens: [query_heads of all layers][n][capacity], softmax over the
  /// cached slots.
  [[nodiscard]] std::vector<float> attention(index_t n) {
    const auto view = cache();
    const index_t rows = index_t(from_->shape.rows());
    std::vector<float> a(std::size_t(rows * from_->group * n * capacity_), NAN), key(std::size_t(from_->dim));
    for (index_t r = 0; r < rows; ++r)
      for (index_t g = 0; g < from_->group; ++g)
        for (index_t i = 0; i < n; ++i) {
          float* row = a.data() + ((r * from_->group + g) * n + i) * capacity_;
          const float* q = from_->query(r, g, seen_ - n + i);
          const index_t visible = length(r) - n + i + 1;
          double total = 0;
          std::vector<double> w(std::size_t(visible), 0.0);
          for (index_t j = 0; j < visible; ++j) {
            view.keys().load(from_->shape.row(r), j, key.data());
            double dot = 0;
            for (index_t d = 0; d < from_->dim; ++d) dot += double(q[d]) * double(key[std::size_t(d)]);
            total += w[std::size_t(j)] = std::exp(dot / std::sqrt(double(from_->dim)));
          }
          for (index_t j = 0; j < visible; ++j) row[j] = float(w[std::size_t(j)] / total);
        }
    return a;
  }

  static void check(const kvevict::status& s) {
    if (!s.ok()) throw std::runtime_error(std::string(s.argument) + ": " + s.sentence);
  }

 private:
  template <class Inputs>
  void observe_with(const Inputs& in) {
    scratch room(kvevict::workspace_bytes(kvevict::cpu{}, policy_, state(), in));
    check(kvevict::observe(kvevict::cpu{}, policy_, state(), in, room.get()));
  }
  const tokens* from_;
  Policy policy_;
  index_t capacity_, seen_ = 0;
  compaction how_;
  std::vector<kvevict::cache_line> memory_;
  std::vector<offset_t> offsets_;
  std::vector<float> keys_, values_;
  std::vector<index_t> order_, lengths_;
};

}  // namespace host
