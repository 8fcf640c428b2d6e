// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include <kvevict/cuda/compact/swap_fill.hpp>
#include <kvevict/cuda/decode/append.hpp>
#include <kvevict/cuda/decode/step.hpp>
#include <kvevict/cuda/decode/tasks.hpp>
#include <kvevict/cuda/score/attention.hpp>
#include <kvevict/cuda/score/general_products.hpp>

#include "../support/sequence.hpp"
#include "../support/simulated_score.hpp"
#include "../support/storage.hpp"

using namespace kvevict;
using host::tokens;

namespace {

constexpr index_t layers = 2, kv_heads = 2, group = 2, dim = 8, value_dim = 5, capacity = 48;

/// f(first row, rows) for what is decided together.
template <class Policy, class F>
void each_unit(const cache_shape& shape, const F& f) {
  constexpr bool together =
      decltype(std::declval<Policy>().rule())::joint || score::layer_wide<decltype(std::declval<Policy>().scorer())>;
  const index_t rows = together ? shape.kv_heads : 1;
  for (index_t r = 0; r < shape.rows(); r += rows) f(r, rows);
}

/// Sequences of an engine on the CPU, one by one.
template <class Policy, row_feed Feed>
struct on_the_cpu {
  std::vector<host::sequence<Policy, Feed>> all;
  Policy policy;
  index_t prompt;

  /// Whether each row is in a unit that is full.
  [[nodiscard]] std::vector<bool> full(std::size_t i, index_t every) {
    const cache_shape shape = all[i].physical().shape();
    std::vector<bool> out(std::size_t(shape.rows()));
    each_unit<Policy>(shape, [&](index_t first, index_t rows) {
      offset_t above = 0;
      for (index_t r = first; r < first + rows; ++r) {
        const index_t n = all[i].length(r);
        above += n - detail::plan_row(policy, shape, shape.row(r), n, prompt > 0 ? prompt : n).nominal;
      }
      for (index_t r = first; r < first + rows; ++r) out[std::size_t(r)] = above > (every - 1) * rows;
    });
    return out;
  }
  /// The CPU's selection for rows of full units; the others keep all.
  void evict(std::size_t i, index_t every) {
    host::kept chosen = all[i].select();
    host::sequence<Policy, Feed>::check(chosen.status);
    const std::vector<bool> evicts = full(i, every);
    std::vector<index_t> slots;
    std::vector<offset_t> offsets{0};
    for (std::size_t r = 0; r < evicts.size(); ++r) {
      if (evicts[r])
        for (const index_t s : chosen.view()[index_t(r)]) slots.push_back(s);
      else
        for (index_t s = 0; s < all[i].length(index_t(r)); ++s) slots.push_back(s);
      offsets.push_back(offset_t(slots.size()));
    }
    all[i].compact({slots, offsets});
  }
};

/// The same sequences as a batch whose memory only kernels touch; their states lie in any order in a larger pool.
/// `Swaps`: keys and values are swapped and seen in token order.
template <class Policy, row_feed Feed, bool Swaps = false>
struct on_the_device {
  Policy policy;
  const std::vector<tokens>* texts;
  cache_shape shape;
  std::vector<index_t> seen, lengths, which;
  std::vector<float> keys, values;
  std::vector<cache_line> pool;
  std::vector<index_t> order_memory;
  sequence_extent extent;
  std::mt19937 chance;

  on_the_device(const Policy& p, const std::vector<tokens>& from, index_t prompt, std::uint32_t seed)
      : policy(p),
        texts(&from),
        shape{layers, index_t(from.size()), kv_heads},
        seen(from.size()),
        lengths(std::size_t(shape.rows())),
        keys(host::poisoned<float>(shape.rows() * capacity * dim)),
        values(host::poisoned<float>(shape.rows() * capacity * value_dim)),
        extent{.shape = {layers, 1, kv_heads},
               .capacity = capacity,
               .query_heads = kv_heads * group,
               .head_dim = dim,
               .prompt_length = prompt},
        chance(seed) {
    for (index_t i = 0; i < shape.rows() * capacity; ++i) order_memory.push_back(i % capacity);
    for (index_t i = shape.seqs; i > 0; --i) which.push_back(i);  // piece 0 belongs to none
    const std::size_t lines = cache_lines(state_bytes<Feed>(policy, extent));
    pool.resize(lines * (from.size() + 1));
    std::memset(static_cast<void*>(pool.data()), 0xff, pool.size() * sizeof(cache_line));
    for (index_t i = 0; i < shape.seqs; ++i) {
      extent.sequence = i;
      REQUIRE(start(policy, extent, state(i)).ok());  // what the kernel calls as well
    }
  }
  [[nodiscard]] decode_state<Feed> state(index_t i) {
    const std::size_t lines = cache_lines(state_bytes<Feed>(policy, extent));
    return decode_state<Feed>{{reinterpret_cast<std::byte*>(pool.data() + lines * std::size_t(which[std::size_t(i)])),
                               offset_t(lines * sizeof(cache_line))}};
  }
  [[nodiscard]] device_states<Feed> states() { return {policy, extent, workspace_of(pool), which.data()}; }
  [[nodiscard]] auto cache() {
    return kvevict::cache{shape, lengths.data(), entries{keys.data(), hnd(shape.seqs, kv_heads, capacity, dim), dim},
                          entries{values.data(), hnd(shape.seqs, kv_heads, capacity, value_dim), value_dim}};
  }
  [[nodiscard]] auto by_token() {
    if constexpr (Swaps)
      return in_token_order(cache(), token_order{order_memory.data(), hnd(shape.seqs, kv_heads, capacity, 1)});
    else
      return cache();
  }
  [[nodiscard]] int threads() { return 32 * int(1 + chance() % 4); }

  template <class Task>
  void run(offset_t blocks, offset_t bytes, const Task& task, const auto& kernel) {
    simulated::run_grid(index_t(blocks), threads(), bytes, std::uint32_t(chance()),
                        [&](simulated::block& b) { kernel(b, task); });
  }

  /// Appends and observes the next n[i] tokens of each sequence; a sequence may have none. `from` has what the engine's
  /// attention would be. With `every`, the kernel that observes also evicts.
  void feed(const std::vector<index_t>& n, on_the_cpu<Policy, Feed>& from, index_t every = 0) {
    const index_t most = *std::max_element(n.begin(), n.end()), heads = kv_heads * group;
    const index_t extra = index_t(chance() % 2);  // rows of earlier tokens, which are not read
    std::vector<index_t> added, rows;
    auto k = host::poisoned<float>(shape.rows() * most * dim),
         v = host::poisoned<float>(shape.rows() * most * value_dim);
    const index_t width = Feed == row_feed::attention ? capacity : dim;
    auto given = host::poisoned<float>(offset_t{layers} * shape.seqs * heads * (most + extra) * width);
    for (index_t r = 0; r < shape.rows(); ++r) {
      const row_id row = shape.row(r);
      const auto seq = std::size_t(row.seq);
      const tokens& text = (*texts)[seq];
      const index_t own = row.layer * kv_heads + row.kv_head;
      added.push_back(n[seq]);
      if (row.kv_head == 0) rows.push_back(n[seq] + extra);
      for (index_t i = 0; i < n[seq]; ++i) {
        std::copy_n(text.key(own, seen[seq] + i), dim, k.begin() + (r * most + i) * dim);
        std::copy_n(text.value(own, seen[seq] + i), value_dim, v.begin() + (r * most + i) * value_dim);
      }
      if (n[seq] == 0) continue;
      std::vector<float> a;
      if constexpr (Feed == row_feed::attention) a = from.all[seq].attention(n[seq]);
      for (index_t g = 0; g < group; ++g)
        for (index_t i = 0; i < n[seq]; ++i) {
          const index_t head = (row.layer * shape.seqs + row.seq) * heads + row.kv_head * group + g;
          float* to = given.data() + (head * (most + extra) + extra + i) * width;
          if constexpr (Feed == row_feed::attention)
            std::copy_n(a.data() + ((own * group + g) * n[seq] + i) * capacity, capacity, to);
          else
            std::copy_n(text.query(own, g, seen[seq] + i), dim, to);
        }
    }
    const auto order = [&](index_t d) { return hnd(shape.seqs, kv_heads, most, d); };
    const kvevict::cache more{shape, added.data(), entries{k.data(), order(dim), dim},
                              entries{v.data(), order(value_dim), value_dim}};
    const auto moved = detail::moved_between(more, cache());
    const detail::append_task<std::remove_const_t<decltype(more)>, std::remove_const_t<decltype(moved)>> task{
        more, moved, lengths.data()};
    run(shape.rows(), 0, task, [](auto& b, const auto& t) { detail::append_row(b, t); });
    const entries row_entries{given.data(), hnd(shape.seqs, heads, most + extra, width), width};
    const auto observe = [&](const auto& in) {
      if (every > 0) return step(in, every);
      carver count;
      detail::take_observation(count, policy, states(), shape.rows(), capacity);
      host::scratch memory(count.bytes());
      carver place(memory.get().data);
      float* const logits = detail::take_observation(place, policy, states(), shape.rows(), capacity);
      run(shape.rows(), logits != nullptr ? detail::attend_bytes : 0,
          detail::observe_task_of(policy, states(), in, capacity, logits),
          [](auto& b, const auto& t) { detail::observe_row(b, t); });
    };
    if constexpr (Feed == row_feed::attention)
      observe(inputs{by_token(), attention_view{row_entries, heads, row_lengths(rows.data())}});
    else
      observe(inputs{by_token(), query_view{row_entries, heads, row_lengths(rows.data())}});
    for (std::size_t i = 0; i < seen.size(); ++i) seen[i] += n[i];
  }

  void evict(index_t every) {
    const auto in = inputs{by_token()};
    carver count;
    detail::take_room(count, policy, detail::eviction_inputs(in, states()), capacity);
    host::scratch memory(count.bytes());
    carver place(memory.get().data);
    const detail::room_memory m = detail::take_room(place, policy, detail::eviction_inputs(in, states()), capacity);
    const auto task = detail::room_task_of(policy, states(), in, lengths.data(), every, capacity, m);
    const int wide = threads();
    run_units(task, wide, detail::make_room_bytes<std::remove_const_t<decltype(task)>>(wide),
              [&](simulated::block& b) { detail::make_room(b, task); });
  }

  /// Observation and eviction by one kernel.
  template <class Inputs>
  void step(const Inputs& in, index_t every) {
    const auto take = [&](carver& from) {
      float* const logits = detail::take_observation(from, policy, states(), shape.rows(), capacity);
      return std::pair(logits, detail::take_room(from, policy, detail::eviction_inputs(in, states()), capacity));
    };
    carver count;
    take(count);
    host::scratch memory(count.bytes());
    carver place(memory.get().data);
    const auto [logits, m] = take(place);
    const auto observation = detail::observe_task_of(policy, states(), in, capacity, logits);
    const auto room = detail::room_task_of(policy, states(), in, lengths.data(), every, capacity, m);
    const detail::step_task<std::remove_const_t<decltype(observation)>, std::remove_const_t<decltype(room)>> task{
        observation, room};
    const int wide = threads();
    run_units(room, wide, detail::step_bytes(task, wide), [&](simulated::block& b) { detail::take_step(b, task); });
  }

  template <class Room, class Kernel>
  void run_units(const Room& room, int wide, offset_t bytes, const Kernel& kernel) {
    const auto units = index_t(room.units());
    if constexpr (!Room::together) {
      simulated::run_grid(units, wide, bytes, std::uint32_t(chance()), kernel);
    } else {
      std::map<const void*, simulated::team_piece> shared;
      if (Room::joint) {
        shared[room.memory.share.reached] = detail::share_memory::reached_count(shape.rows());
        shared[room.memory.share.budgets] = shape.rows();
        shared[room.memory.share.limits] = shape.rows();
      }
      simulated::run_teams(units, 1 + int(chance() % 2), wide, bytes, std::uint32_t(chance()), shared, kernel);
    }
  }
};

/// Whether the same slots are cached, with the same bits of keys and values, and the states say so.
template <class Policy, row_feed Feed, bool Swaps>
void check_same(on_the_cpu<Policy, Feed>& cpu_side, on_the_device<Policy, Feed, Swaps>& device_side) {
  for (index_t r = 0; r < device_side.shape.rows(); ++r) {
    const row_id row = device_side.shape.row(r);
    CAPTURE(row.layer);
    CAPTURE(row.seq);
    CAPTURE(row.kv_head);
    auto& one = cpu_side.all[std::size_t(row.seq)];
    row_id alone = row;
    alone.seq = 0;
    alone.index = row.layer * kv_heads + row.kv_head;
    const auto state = device_side.state(row.seq);
    REQUIRE(state.check().ok());
    REQUIRE(device_side.lengths[std::size_t(r)] == one.length(alone.index));
    REQUIRE(state.length(alone) == one.length(alone.index));
    REQUIRE(state.seen() == one.seen());
    const auto a = one.state().parts(), b = state.parts();
    REQUIRE(b.seen[alone.index] == one.seen());
    const auto wanted = one.state().positions(alone), got = state.positions(alone);
    REQUIRE(std::equal(wanted.begin(), wanted.end(), got.begin(), got.end()));
    for (index_t s = 0; s < wanted.size(); ++s) {
      const index_t token = wanted[s];
      const tokens& text = (*device_side.texts)[std::size_t(row.seq)];
      REQUIRE(std::memcmp(device_side.by_token().keys().at(row, s, 0), text.key(alone.index, token), dim * 4) == 0);
      REQUIRE(std::memcmp(device_side.by_token().values().at(row, s, 0), text.value(alone.index, token),
                          value_dim * 4) == 0);
      for (index_t g = 0; g < state.header().sums * group; ++g) {
        const auto at = (alone.index * group + g) * capacity + s;
        if (Feed == row_feed::attention)
          REQUIRE(host::same_bits(a.sums[at], b.sums[at]));
        else
          REQUIRE(b.sums[at] == doctest::Approx(a.sums[at]).epsilon(1e-5));
      }
    }
  }
}

template <row_feed Feed = row_feed::queries, bool Swaps = false, class Policy>
void check_life(const Policy& policy, index_t every, index_t steps, std::uint32_t seed, bool in_one = false) {
  CAPTURE(Policy::name);
  CAPTURE(every);
  CAPTURE(seed);
  const index_t longest_prompt = 30, prompt = seed % 2 == 0 ? 20 : 0;
  std::vector<tokens> texts;
  for (unsigned i = 0; i < 2; ++i)
    texts.emplace_back(layers, kv_heads, group, longest_prompt + steps + 1, dim, value_dim, seed + 17 * i);
  on_the_cpu<Policy, Feed> wanted{{}, policy, prompt};
  for (index_t i = 0; i < 2; ++i) wanted.all.emplace_back(texts[std::size_t(i)], policy, capacity, prompt, i);
  on_the_device<Policy, Feed, Swaps> got(policy, texts, prompt, seed);
  for (index_t step = 0; step < steps; ++step) {
    CAPTURE(step);
    // A short prompt and a long one; one sequence rests now and then.
    const std::vector<index_t> n =
        step == 0 ? std::vector<index_t>{9, longest_prompt} : std::vector<index_t>{1, step % 7 == 3 ? 0 : 1};
    for (std::size_t i = 0; i < 2; ++i)
      if (n[i] > 0) wanted.all[i].feed(n[i]);
    got.feed(n, wanted, in_one ? every : 0);
    if (in_one) {
      for (index_t i = 0; i < 2; ++i) wanted.evict(std::size_t(i), every);
      check_same(wanted, got);
      continue;
    }
    check_same(wanted, got);
    const auto keys = got.keys, values = got.values;
    const auto pool = got.pool;
    const auto order = got.order_memory;
    bool any = false;
    for (std::size_t i = 0; i < 2; ++i) {
      const std::vector<bool> full = wanted.full(i, every);
      any = any || std::find(full.begin(), full.end(), true) != full.end();
      wanted.evict(i, every);
    }
    got.evict(every);
    if (!any) {  // then nothing was touched
      REQUIRE(std::memcmp(keys.data(), got.keys.data(), keys.size() * 4) == 0);
      REQUIRE(std::memcmp(values.data(), got.values.data(), values.size() * 4) == 0);
      REQUIRE(std::memcmp(pool.data(), got.pool.data(), pool.size() * sizeof(cache_line)) == 0);
      REQUIRE(order == got.order_memory);
    }
    check_same(wanted, got);
  }
}

/// The columns of `evict` from the states, by the kernels that an entry point launches.
template <class Policy, row_feed Feed, class Inputs, class Source>
void simulated_columns(on_the_device<Policy, Feed>& d, const Inputs& in, const Source& source,
                       const detail::column_output& out) {
  const auto rows = index_t(d.shape.rows());
  const auto& positions = in.template get<input_kind::positions>();
  const auto give = [&](const auto& from) {
    const detail::given_task<Source, std::remove_cvref_t<decltype(in.cache)>, std::remove_cvref_t<decltype(from)>,
                             std::remove_cvref_t<decltype(positions)>>
        task{source, in.cache, from, positions, group, 2, out};
    d.run(rows * 2, 0, task, [](auto& b, const auto& t) { detail::given_columns(b, t); });
  };
  if (detail::sums_are_given(source, in)) {
    give(in.template get<input_kind::attention_sums>());
  } else if constexpr (Feed == row_feed::attention) {
    give(in.template get<input_kind::attention>());
  } else {
    const auto& queries = in.template get<input_kind::queries>();
    const detail::rule_budget<decltype(d.policy.rule())> budget{d.policy.rule(), d.policy.protection()};
    detail::attention_task<Source, std::remove_cvref_t<decltype(in.cache)>, std::remove_cvref_t<decltype(queries)>,
                           detail::not_given, std::remove_cvref_t<decltype(positions)>,
                           std::remove_cvref_t<decltype(budget)>>
        task{source, in.cache, queries, {}, positions, budget};
    task.group_size = group;
    carver count;
    const offset_t wide = detail::softmax_parts::columns_of(group, source.window);
    detail::softmax_parts::take(count, rows, 1, wide);
    host::scratch memory(count.bytes());
    carver place(memory.get().data);
    task.parts = detail::softmax_parts::take(place, rows, 1, wide);
    task.out = out;
    using products = detail::general_products<>;
    simulated::run_grid(rows, 64, detail::attention_sums_bytes<products>(64), 1,
                        [&](auto& b) { detail::attention_sums<products>(b, task); });
    simulated::run_grid(rows, 64, detail::attention_columns_bytes<products>(64), 2,
                        [&](auto& b) { detail::attention_columns<products>(b, task); });
  }
}

/// `evict` from the states: its kernels in the order of their launches; what each row retains.
template <class Policy, row_feed Feed>
std::vector<std::vector<index_t>> simulated_evict(on_the_device<Policy, Feed>& d) {
  const auto in = detail::bounded(detail::eviction_inputs(inputs{d.cache()}, d.states()), capacity);
  const auto rows = index_t(d.shape.rows());
  std::vector<offset_t> offsets(std::size_t(rows) + 1), kept_offsets(offsets.size());
  std::vector<index_t> budget_lengths(std::size_t(rows), -1), slots_kept(std::size_t(rows * capacity));
  std::vector<float> scores(std::size_t(rows * capacity), NAN);
  d.run(1, detail::lay_out_bytes, in,
        [&](auto& b, const auto& of) { detail::lay_out_rows(b, of, offsets.data(), budget_lengths.data()); });
  const ragged<float> scored{scores.data(), offsets.data(), rows};
  const simulated::columns columns(d.policy, in, capacity, scored);
  if constexpr (detail::attention_sources<decltype(d.policy.scorer())> != 0)
    simulated_columns(d, in, detail::attention_of(d.policy.scorer()), columns.out);
  simulated::score(d.policy, in, scored, capacity, columns.out, {d.threads(), std::uint32_t(d.chance()), 2});
  detail::select_task<decltype(d.policy.rule())> task{
      .rule = d.policy.rule(), .protection = d.policy.protection(), .shape = d.shape};
  task.scores = scores.data();
  task.score_offsets = offsets.data();
  task.budget_lengths = budget_lengths.data();
  task.slots = slots_kept.data();
  task.slots_room = offset_t(slots_kept.size());
  task.offsets = kept_offsets.data();
  carver count;
  detail::share_memory::take(count, rows);
  host::scratch share(count.bytes());
  carver place(share.get().data);
  const auto memory = detail::share_memory::take(place, rows);
  if constexpr (decltype(d.policy.rule())::joint) {
    simulated::run_teams(
        d.shape.layers * d.shape.seqs, 2, 64, detail::selection_memory_bytes + detail::share_pool_bytes, 3,
        {{memory.reached, detail::share_memory::reached_count(rows)}, {memory.budgets, rows}, {memory.limits, rows}},
        [&](simulated::block& b) {
          auto shared = detail::selection_memory<simulated::block>::take(b);
          detail::share_pool(b, task, memory, shared);
        });
    task.budgets = memory.budgets;
    task.limits = memory.limits;
  }
  d.run(rows, detail::selection_memory_bytes + detail::key_list_bytes, task,
        [](auto& b, const auto& t) { detail::select_row(b, t); });
  std::vector<std::vector<index_t>> result;
  for (std::size_t r = 0; r + 1 < kept_offsets.size(); ++r)
    result.emplace_back(slots_kept.begin() + kept_offsets[r], slots_kept.begin() + kept_offsets[r + 1]);
  return result;
}

}  // namespace

TEST_CASE("decode kernels: hundreds of steps keep the CPU's slots, policies fed by queries") {
  const amount b = slots(14);
  for (const index_t every : {1, 4}) {
    const index_t steps = 60 * every;
    const auto seed = std::uint32_t(every);
    check_life(h2o{.budget = b}, every, steps, seed);
    check_life(accumulated_attention{.budget = b, .sinks = 2}, every, steps, seed + 1);
    check_life(tova{.budget = b}, every, steps, seed + 2);
    check_life(snapkv<>{.budget = b, .window = 6}, every, steps, seed + 3);
    check_life(pyramidkv<>{.budget = b, .window = 4, .beta = 3}, every, steps, seed + 4);
    check_life(nacl{.budget = b, .window = 5}, every, steps, seed + 5);
    check_life(ahakv<>{.budget = b, .window = 5}, every, steps, seed + 6);
    check_life(ahakv<score::step_gain, every_row>{.budget = b, .window = 4}, every, steps, seed + 7);
  }
}

TEST_CASE("decode kernels: policies fed by attention keep the CPU's slots, and its sums bit for bit") {
  constexpr auto feed = row_feed::attention;
  const amount b = slots(14);
  for (const index_t every : {1, 4}) {
    const index_t steps = 60 * every;
    const auto seed = std::uint32_t(10 + every);
    check_life<feed>(h2o{.budget = b}, every, steps, seed);
    check_life<feed>(accumulated_attention{.budget = b, .sinks = 2}, every, steps, seed + 1);
    check_life<feed>(tova{.budget = b}, every, steps, seed + 2);
    check_life<feed>(snapkv<>{.budget = b, .window = 6}, every, steps, seed + 3);
    check_life<feed>(adakv{h2o{.budget = b}}, every, steps, seed + 4);
  }
}

TEST_CASE("decode kernels: heads that share a budget, and policies that remember no rows, keep the CPU's slots") {
  const amount b = slots(14);
  for (const index_t every : {1, 4}) {
    const index_t steps = 60 * every;
    const auto seed = std::uint32_t(20 + every);
    check_life(adakv{ahakv<>{.budget = b, .window = 5}}, every, steps, seed);
    check_life(adakv{snapkv<>{.budget = percent(60), .window = 4}, 0.4, budget::safeguard::minimum}, every, steps,
               seed - seed % 2);
    check_life(adakv{tova{.budget = b}}, every, steps, seed + 2);
    check_life(streaming_llm{.budget = b}, every, steps, seed + 3);
    check_life(kvevict::random{.budget = b, .seed = 7, .recent = 2}, every, steps, seed + 4);
    check_life(knorm{.budget = b}, every, steps, seed + 5);
    check_life(keydiff{.budget = b, .recent = 3}, every, steps, seed + 6);
    check_life(adakv{decayed_keydiff{.budget = b, .window = 5, .decay = 3}}, every, steps, seed + 7);
  }
}

TEST_CASE("decode kernels: where keys and values are swapped, token order decides, and the same slots stay") {
  const amount b = slots(14);
  for (const index_t every : {1, 4}) {
    const index_t steps = 60 * every;
    const auto seed = std::uint32_t(30 + every);
    check_life<row_feed::attention, true>(h2o{.budget = b}, every, steps, seed);
    check_life<row_feed::queries, true>(snapkv<>{.budget = b, .window = 6}, every, steps, seed + 1);
    check_life<row_feed::queries, true>(adakv{ahakv<>{.budget = b, .window = 5}}, every, steps, seed + 2);
    check_life<row_feed::queries, true>(keydiff{.budget = b, .recent = 3}, every, steps, seed + 3);
  }
}

TEST_CASE("decode kernels: one kernel for observation and eviction keeps the CPU's slots") {
  const amount b = slots(14);
  for (const index_t every : {1, 4}) {
    const index_t steps = 30 * every;
    const auto seed = std::uint32_t(40 + every);
    check_life(h2o{.budget = b}, every, steps, seed, true);
    check_life<row_feed::attention>(h2o{.budget = b}, every, steps, seed + 1, true);
    check_life(tova{.budget = b}, every, steps, seed + 2, true);
    check_life(snapkv<>{.budget = b, .window = 6}, every, steps, seed + 3, true);
    check_life(adakv{ahakv<>{.budget = b, .window = 5}}, every, steps, seed + 4, true);
    check_life<row_feed::attention>(adakv{h2o{.budget = b}}, every, steps, seed + 5, true);
    check_life(streaming_llm{.budget = b}, every, steps, seed + 6, true);
    check_life<row_feed::queries, true>(snapkv<>{.budget = b, .window = 6}, every, steps, seed + 7, true);
  }
}

TEST_CASE("decode kernels: states follow the slots that a selection retains, however keys and values move") {
  const auto check = [](const auto& policy, auto feed, std::uint32_t seed) {
    constexpr row_feed how = decltype(feed)::value;
    using policy_type = std::remove_cvref_t<decltype(policy)>;
    std::vector<tokens> texts;
    texts.emplace_back(layers, kv_heads, group, 60, dim, value_dim, seed);
    on_the_cpu<policy_type, how> wanted{{}, policy, 20};
    wanted.all.emplace_back(texts[0], policy, capacity, 20, 0);
    on_the_device<policy_type, how> got(policy, texts, 20, seed);
    std::vector<index_t> order_memory(std::size_t(got.shape.rows() * capacity));
    for (std::size_t i = 0; i < order_memory.size(); ++i) order_memory[i] = index_t(i) % capacity;
    const token_order order{order_memory.data(), hnd(1, kv_heads, capacity, 1)};
    wanted.all[0].feed(30);
    got.feed({30}, wanted);
    for (int round = 0; round < 9; ++round) {
      CAPTURE(round);
      host::kept chosen = wanted.all[0].select();
      REQUIRE(chosen.status.ok());
      if (round == 4) chosen.offsets = std::vector<offset_t>(chosen.offsets.size(), 0);  // rows may retain nothing
      const detail::row_moves kept{
          .slots = chosen.slots.data(), .room = offset_t(chosen.slots.size()), .offsets = chosen.offsets.data()};
      auto memory = in_token_order(got.cache(), order);
      if (round % 3 == 0) {  // in place
        const auto moved = detail::moved_within(got.cache(), 2, side(got.states()));
        const detail::in_place_task<std::remove_const_t<decltype(moved)>> task{got.shape, kept, moved};
        got.run(task.blocks(), 0, task, [](auto& b, const auto& t) { detail::compact_rows(b, t); });
      } else if (round % 3 == 1) {  // into other memory
        const auto keys = got.keys, values = got.values;
        const cache from{got.shape, got.lengths.data(), entries{keys.data(), hnd(1, kv_heads, capacity, dim), dim},
                         entries{values.data(), hnd(1, kv_heads, capacity, value_dim), value_dim}};
        const auto moved = detail::moved_between(from, got.cache(), side(got.states()));
        const detail::gather_task<std::remove_const_t<decltype(moved)>> task{got.shape, kept, moved, 3};
        got.run(task.blocks(), 0, task, [](auto& b, const auto& t) { detail::gather_rows(b, t); });
      } else {  // with the fewest moves
        carver count;
        detail::swap_memory::take(count, kept.room, got.shape.rows(), false);
        host::scratch scratch(count.bytes());
        carver place(scratch.get().data);
        const auto m = detail::swap_memory::take(place, kept.room, got.shape.rows(), false);
        const auto physical = got.cache();
        const detail::swap_task<std::remove_const_t<decltype(physical)>> plan{physical, order, kept, m};
        const auto moved = detail::moved_within(physical, 1, side(got.states()));
        got.run(got.shape.rows(), detail::plan_swaps_bytes, plan,
                [&](auto& b, const auto& t) { detail::plan_swaps(b, t, moved); });
        const detail::gather_task<std::remove_const_t<decltype(moved)>> task{got.shape, detail::planned(kept, m), moved,
                                                                             2, true};
        got.run(task.blocks(), 0, task, [](auto& b, const auto& t) { detail::gather_rows(b, t); });
      }
      got.run(1, 0, kept, [&](auto& b, const auto& k) {
        detail::write_lengths(b, k, index_t(got.shape.rows()), got.lengths.data());
      });
      wanted.all[0].compact(chosen.view());
      if (round % 3 == 2) {  // what was swapped is put back into token order, so that the next round finds it
        for (index_t r = 0; r < got.shape.rows(); ++r) {
          const row_id row = got.shape.row(r);
          std::vector<std::vector<float>> k, v;
          for (index_t s = 0; s < got.lengths[std::size_t(r)]; ++s) {
            memory.keys().load(row, s, k.emplace_back(std::size_t(dim)).data());
            memory.values().load(row, s, v.emplace_back(std::size_t(value_dim)).data());
          }
          for (index_t s = 0; s < got.lengths[std::size_t(r)]; ++s) {
            std::copy_n(k[std::size_t(s)].begin(), dim, got.cache().keys().at(row, s, 0));
            std::copy_n(v[std::size_t(s)].begin(), value_dim, got.cache().values().at(row, s, 0));
            order(row, s) = s;
          }
        }
      }
      check_same(wanted, got);
      wanted.all[0].feed(3);
      got.feed({3}, wanted);
      check_same(wanted, got);
    }
  };
  using by_queries = std::integral_constant<row_feed, row_feed::queries>;
  using by_attention = std::integral_constant<row_feed, row_feed::attention>;
  check(h2o{.budget = slots(14)}, by_queries{}, 5);
  check(h2o{.budget = slots(14)}, by_attention{}, 6);
  check(snapkv<>{.budget = slots(14), .window = 4}, by_attention{}, 7);
  check(snapkv<>{.budget = slots(14), .window = 4}, by_queries{}, 8);
}

TEST_CASE("decode kernels: a state goes from the device to the CPU and back in the middle of a life") {
  const h2o policy{.budget = slots(14)};
  std::vector<tokens> texts;
  texts.emplace_back(layers, kv_heads, group, 60, dim, value_dim, 4);
  on_the_cpu<h2o, row_feed::attention> wanted{{}, policy, 20};
  wanted.all.emplace_back(texts[0], policy, capacity, 20, 0);
  on_the_device<h2o, row_feed::attention> got(policy, texts, 20, 4);
  wanted.all[0].feed(20);
  got.feed({20}, wanted);
  for (int step = 0; step < 20; ++step) {
    wanted.evict(0, 1);
    got.evict(1);
    // What lies behind the last slot of a row means nothing; all else has the same bytes, so they may change places.
    const auto a = wanted.all[0].state().parts(), b = got.state(0).parts();
    REQUIRE(*a.header == *b.header);
    if (step % 5 == 4)
      std::memcpy(wanted.all[0].memory().data(), got.state(0).bytes().data,
                  std::size_t(wanted.all[0].memory().size() * sizeof(cache_line)));
    wanted.all[0].feed(1);
    got.feed({1}, wanted);
    check_same(wanted, got);
  }
}

TEST_CASE("decode kernels: what only the device can know to be wrong does no harm") {
  const h2o policy{.budget = slots(6)};
  std::vector<tokens> texts;
  texts.emplace_back(layers, kv_heads, group, 60, dim, value_dim, 9);
  on_the_cpu<h2o, row_feed::queries> none{{}, policy, 0};
  on_the_device<h2o, row_feed::queries> got(policy, texts, 0, 9);
  got.feed({20}, none);
  SUBCASE("a row whose state has not seen its last slot stays as it is, the others do not") {
    ++got.lengths[1];
    const auto keys = got.keys;
    got.evict(1);
    CHECK(got.lengths == std::vector<index_t>{6, 21, 6, 6});
    CHECK(std::equal(keys.begin() + capacity * dim, keys.begin() + 2 * capacity * dim,
                     got.keys.begin() + capacity * dim, [](float a, float b) { return host::same_bits(a, b); }));
    CHECK(got.state(0).length({0, 0, 1, 1}) == 20);
  }
  SUBCASE("an impossible budget keeps rows whole") {
    got.policy.budget = slots(1);
    got.policy.sinks = 3;
    got.evict(1);
    CHECK(got.lengths == std::vector<index_t>(4, 20));
  }
  SUBCASE("slots beyond the capacity of a state do not become known") {
    for (index_t& n : got.lengths) n = capacity + 7;
    const std::vector<cache_line> before = got.pool;
    const auto in =
        inputs{got.cache(), query_view{entries{texts[0].queries.data(), hnd(1, 4, 60, dim), dim}, 4, index_t{28}}};
    host::scratch logits(4 * detail::rows_at_once * capacity * 4);
    got.run(4, detail::attend_bytes,
            detail::observe_task_of(policy, got.states(), in, capacity, reinterpret_cast<float*>(logits.get().data)),
            [](auto& b, const auto& t) { detail::observe_row(b, t); });
    CHECK(got.state(0).length({}) == capacity);
    CHECK(got.state(0).seen() == capacity);
    CHECK(std::memcmp(before.data(), got.pool.data(), before.size() / 2 * sizeof(cache_line)) == 0);  // piece 0
  }
  SUBCASE("a state that was never started is left alone") {
    std::memset(static_cast<void*>(got.pool.data()), 0xff, got.pool.size() * sizeof(cache_line));
    const std::vector<cache_line> before = got.pool;
    const auto keys = got.keys;
    got.feed({1}, none);
    got.evict(1);
    CHECK(std::memcmp(before.data(), got.pool.data(), before.size() * sizeof(cache_line)) == 0);
    CHECK(got.lengths == std::vector<index_t>(4, 21));
  }
}

TEST_CASE("decode kernels: a full row gets no slot, its neighbours do") {
  std::vector<float> keys(8, 0), more{1, 2, 3, 4};
  std::vector<offset_t> room{0, 3, 8};
  std::vector<index_t> lengths{2, 3}, added{2, 2};
  const cache_shape shape{.kv_heads = 2};
  const key_cache to{shape, lengths.data(), entries{keys.data(), flat{room.data(), 1}, 1}};
  const key_cache from{shape, added.data(), entries{more.data(), hnd(1, 2, 2, 1), 1}};
  const auto moved = detail::moved_between(from, to);
  const detail::append_task<std::remove_const_t<decltype(from)>, std::remove_const_t<decltype(moved)>> task{
      from, moved, lengths.data()};
  simulated::run_grid(2, 32, 0, 1, [&](simulated::block& b) { detail::append_row(b, task); });
  CHECK(keys == std::vector<float>{0, 0, 0, 0, 0, 0, 3, 4});
  CHECK(lengths == std::vector<index_t>{2, 5});
}

TEST_CASE("decode kernels: a selection from the states, by the kernels of an eviction, is the CPU's") {
  const auto check = [](const auto& policy, auto feed, index_t prompt, std::uint32_t seed) {
    constexpr row_feed how = decltype(feed)::value;
    using policy_type = std::remove_cvref_t<decltype(policy)>;
    std::vector<tokens> texts;
    for (unsigned i = 0; i < 2; ++i) texts.emplace_back(layers, kv_heads, group, 90, dim, value_dim, seed + 7 * i);
    on_the_cpu<policy_type, how> wanted{{}, policy, prompt};
    for (index_t i = 0; i < 2; ++i) wanted.all.emplace_back(texts[std::size_t(i)], policy, capacity, prompt, i);
    on_the_device<policy_type, how> got(policy, texts, prompt, seed);
    for (int step = 0; step < 8; ++step) {
      const std::vector<index_t> n = step == 0 ? std::vector<index_t>{21, 34} : std::vector<index_t>{2, 3};
      for (std::size_t i = 0; i < 2; ++i) wanted.all[i].feed(n[i]);
      got.feed(n, wanted);
      const auto chosen = simulated_evict(got);
      for (index_t r = 0; r < got.shape.rows(); ++r) {
        const row_id row = got.shape.row(r);
        const auto expected = wanted.all[std::size_t(row.seq)].select().rows();
        REQUIRE(chosen[std::size_t(r)] == expected[std::size_t(row.layer * kv_heads + row.kv_head)]);
      }
      for (std::size_t i = 0; i < 2; ++i) wanted.evict(i, 1);
      got.evict(1);
    }
  };
  using by_queries = std::integral_constant<row_feed, row_feed::queries>;
  using by_attention = std::integral_constant<row_feed, row_feed::attention>;
  check(snapkv<>{.budget = percent(50), .window = 5}, by_queries{}, 24, 1);
  check(ahakv<>{.budget = percent(50), .window = 5}, by_queries{}, 24, 2);
  check(adakv{ahakv<>{.budget = slots(13), .window = 4}}, by_queries{}, 0, 3);
  check(h2o{.budget = slots(13)}, by_queries{}, 0, 4);
  check(snapkv<>{.budget = percent(50), .window = 5}, by_attention{}, 24, 5);
  check(adakv{h2o{.budget = percent(50)}}, by_attention{}, 24, 6);
  check(keydiff{.budget = percent(50), .recent = 2}, by_queries{}, 24, 7);
}

TEST_CASE("decode kernels: attention of few query rows is softmax, for any number of dims, rows and elements") {
  for (const index_t dims : {1, 40, 600}) {
    const index_t length = 45, rows = 1 + dims % 6, heads = 3, seen = 50, budget = 20;
    CAPTURE(dims);
    const host::content<bfloat16> c({.kv_heads = 1}, {length}, dims, 1, heads, unsigned(dims));
    auto memory = host::in_pages(c, host::page_order::nhd);
    const auto cache = memory.cache();
    const auto queries = c.query_rows_view();
    std::vector<float> columns(std::size_t(heads * length), 0.0F), logits(std::size_t(detail::rows_at_once * length));
    const score::attention<score::step_gain, score::decayed_rows> how{.window = rows, .weight = {.length = 4}};
    simulated::block b(0, 64, detail::attend_bytes, 3);
    const auto out = b.global(columns.data(), heads * length);
    b.each([&](int t) {
      for (index_t h = 0; h < heads; ++h)
        for (index_t j = t; j < length; j += 64) out.store(t, h * length + j, 0.0F);
    });
    const detail::query_rows of{cache.shape().row(0), length, heads, rows, length - rows, seen - rows};
    const auto visible = [&](index_t i) { return length - (rows - 1 - i); };
    detail::attend(b, how, cache.keys(), queries.entries, of, budget, visible, out, length,
                   b.global(logits.data(), detail::rows_at_once * length), length);
    for (index_t h = 0; h < heads; ++h) {
      std::vector<double> wanted(std::size_t(length), 0.0);
      for (index_t i = 0; i < rows; ++i) {
        std::vector<double> w(std::size_t(visible(i)));
        double total = 0;
        for (std::size_t j = 0; j < w.size(); ++j) {
          double dot = 0;
          for (index_t d = 0; d < dims; ++d)
            dot +=
                double(queries.entries(of.head(h), length - rows + i, d)) * double(cache.keys()(of.row, index_t(j), d));
          total += w[j] = std::exp(double(how.gain(seen - rows + i + 1, budget)) * dot / std::sqrt(double(dims)));
        }
        for (std::size_t j = 0; j < w.size(); ++j) wanted[j] += how.weight(rows - 1 - i) * w[j] / total;
      }
      for (index_t j = 0; j < length; ++j)
        REQUIRE(columns[std::size_t(h * length + j)] == doctest::Approx(wanted[std::size_t(j)]).epsilon(2e-5));
    }
  }
}
