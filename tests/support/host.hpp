// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cpu.hpp>
#include <memory>
#include <new>
#include <stdexcept>
#include <vector>

#include "stored.hpp"

/// What a host of the library does around a call, for tests.
namespace host {

/// Memory at a multiple of 64 bytes, filled with 0xFF because its contents must not matter.
class scratch {
 public:
  explicit scratch(offset_t bytes) : bytes_(bytes), memory_(static_cast<std::size_t>(bytes) + 64, std::byte{0xff}) {}
  [[nodiscard]] kvevict::workspace get() {
    void* start = memory_.data();
    std::size_t room = memory_.size();
    std::align(64, static_cast<std::size_t>(bytes_), start, room);
    return {static_cast<std::byte*>(start), bytes_};
  }

 private:
  offset_t bytes_;
  std::vector<std::byte> memory_;
};

/// A selection that owns its memory.
struct kept {
  kvevict::status status;
  std::vector<index_t> slots;
  std::vector<offset_t> offsets;
  std::vector<kvevict::row_receipt> receipts;

  [[nodiscard]] kvevict::selection view() { return {slots, offsets, receipts}; }
  [[nodiscard]] std::vector<std::vector<index_t>> rows() {
    std::vector<std::vector<index_t>> out;
    for (index_t r = 0; r + 1 < static_cast<index_t>(offsets.size()); ++r)
      out.emplace_back(view()[r].begin(), view()[r].end());
    return out;
  }
};

template <class Policy, class Inputs, class Executor = kvevict::serial>
kept evict(const Policy& policy, const Inputs& in, const Executor& how = {}) {
  const kvevict::cpu on{how};
  kept out;
  out.slots.assign(static_cast<std::size_t>(kvevict::selection_capacity(policy, in)), -7);
  out.offsets.assign(static_cast<std::size_t>(in.cache.shape().rows()) + 1, -7);
  out.receipts.resize(out.offsets.size() - 1);
  scratch memory(kvevict::workspace_bytes(on, policy, in));
  out.status = kvevict::evict(on, policy, in, out.view(), memory.get());
  return out;
}

/// A policy of any scorer, budget rule and protection.
template <class Scorer, class Rule = kvevict::budget::uniform>
struct composed {
  Scorer scores;
  Rule budget_rule{kvevict::slots(1)};
  kvevict::protect protects{};
  [[nodiscard]] constexpr auto scorer() const { return scores; }
  [[nodiscard]] constexpr auto rule() const { return budget_rule; }
  [[nodiscard]] constexpr kvevict::protect protection() const { return protects; }
};
template <class Scorer>
composed(Scorer) -> composed<Scorer>;
template <class Scorer, class Rule>
composed(Scorer, Rule) -> composed<Scorer, Rule>;
template <class Scorer, class Rule>
composed(Scorer, Rule, kvevict::protect) -> composed<Scorer, Rule>;

/// Scores of every row, [row][slot].
template <class Policy, class Inputs, class Executor = kvevict::serial>
std::vector<std::vector<float>> score(const Policy& policy, const Inputs& in, const Executor& how = {}) {
  const kvevict::cpu on{how};
  const kvevict::cache_shape shape = in.cache.shape();
  std::vector<offset_t> offsets{0};
  for (index_t r = 0; r < shape.rows(); ++r) offsets.push_back(offsets.back() + in.cache.length(shape.row(r)));
  std::vector<float> flat(static_cast<std::size_t>(offsets.back()));
  scratch memory(kvevict::workspace_bytes(on, policy, in));
  const kvevict::status s = kvevict::score_rows(
      on, policy, in, kvevict::ragged<float>{flat.data(), offsets.data(), static_cast<index_t>(shape.rows())},
      memory.get());
  if (!s.ok()) throw std::runtime_error(s.sentence);
  std::vector<std::vector<float>> out;
  for (std::size_t r = 0; r + 1 < offsets.size(); ++r)
    out.emplace_back(flat.begin() + offsets[r], flat.begin() + offsets[r + 1]);
  return out;
}

/// Runs tasks on `n` workers in an order that depends on n, on one thread.
struct shuffled {
  index_t n = 1;
  [[nodiscard]] index_t workers() const { return n; }
  template <class Task>
  void run(index_t tasks, const Task& task) const {
    for (index_t w = n - 1; w >= 0; --w)
      for (index_t t = w; t < tasks; t += n) task(t, w);
  }
};

/// One layer, one sequence, fp32, head-major: the smallest usual case.
struct problem {
  index_t kv_heads, group, length, dim, value_dim, rows;
  std::vector<float> keys, values, queries;

  problem(index_t h, index_t g, index_t n, index_t d, index_t dv, index_t r, unsigned seed = 1, float scale = 1)
      : kv_heads(h),
        group(g),
        length(n),
        dim(d),
        value_dim(dv),
        rows(r),
        keys(normal(static_cast<std::size_t>(h * n * d), seed, scale)),
        values(normal(static_cast<std::size_t>(h * n * dv), seed + 1)),
        queries(normal(static_cast<std::size_t>(h * g * r * d), seed + 2, scale)) {}

  [[nodiscard]] auto cache() const {
    return kvevict::cache{kvevict::cache_shape{1, 1, kv_heads}, length,
                          kvevict::entries{keys.data(), kvevict::hnd(1, kv_heads, length, dim), dim},
                          kvevict::entries{values.data(), kvevict::hnd(1, kv_heads, length, value_dim), value_dim}};
  }
  [[nodiscard]] auto query_rows() const {
    return kvevict::query_view{kvevict::entries{queries.data(), kvevict::hnd(1, kv_heads * group, rows, dim), dim},
                               kv_heads * group, rows};
  }
  [[nodiscard]] auto in() const { return kvevict::inputs{cache(), query_rows()}; }
};

}  // namespace host
