// SPDX-License-Identifier: MIT
// Every entry point on real threads: the same bits as on one, in every run. The thread sanitizer runs this program too.
#include <doctest/doctest.h>

#include <atomic>
#include <barrier>
#include <cstdlib>
#include <functional>
#include <thread>

#include "../support/storage.hpp"

#if defined(__SANITIZE_THREAD__)
#define KVEVICT_TEST_THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define KVEVICT_TEST_THREAD_SANITIZER 1
#endif
#endif

// LLVM's OpenMP tells the sanitizer nothing of its barriers, so that every loop would look like a race.
#if !defined(KVEVICT_TEST_THREAD_SANITIZER)
#include <kvevict/cpu/openmp.hpp>
#endif

using namespace kvevict;
using host::content;

namespace {

using one_task = std::function<void(index_t task, index_t worker)>;

/// An executor that is chosen when the program runs, so that every entry point is compiled once for all of them.
struct runner {
  index_t count;
  std::function<void(index_t tasks, const one_task&)> run_all;

  [[nodiscard]] index_t workers() const { return count; }
  void run(index_t tasks, const one_task& task) const { run_all(tasks, task); }
};

/// An engine's thread pool, the smallest there is: threads that wait, and take tasks one by one until none is left.
class crew {
 public:
  explicit crew(index_t workers) : together_(workers) {
    for (index_t w = 1; w < workers; ++w) threads_.emplace_back([this, w] { wait_for_work(w); });
  }
  crew(const crew&) = delete;
  ~crew() {
    task_ = nullptr;
    together_.arrive_and_wait();
    for (std::thread& t : threads_) t.join();
  }
  [[nodiscard]] runner executor() {
    return {index_t(threads_.size()) + 1, [this](index_t tasks, const one_task& task) { run(tasks, task); }};
  }

 private:
  void run(index_t tasks, const one_task& task) {
    task_ = &task;
    tasks_ = tasks;
    next_ = index_t(threads_.size()) + 1;
    together_.arrive_and_wait();
    work(0);
  }
  /// A worker's first task is its own number, the others it takes as they come. No task starts before all workers are
  /// there, and nothing here orders one task before another: so a race between tasks is one to the sanitizer in every
  /// run, also where the machine has a single core.
  void work(index_t worker) {
    for (index_t t = worker; t < tasks_; t = next_.fetch_add(1, std::memory_order_relaxed)) (*task_)(t, worker);
    together_.arrive_and_wait();
  }
  void wait_for_work(index_t worker) {
    while (true) {
      together_.arrive_and_wait();
      if (task_ == nullptr) return;
      work(worker);
    }
  }

  std::barrier<> together_;  ///< before the tasks, and after them
  std::vector<std::thread> threads_;
  const one_task* task_ = nullptr;
  std::atomic<index_t> next_{0};
  index_t tasks_ = 0;
};

const runner one_after_another{1, [](index_t tasks, const one_task& task) { serial::run(tasks, task); }};

/// One thread that plays several workers, and looks after every task at what it changed in the workspace: counts the
/// bytes that tasks of two workers changed.
runner watching(index_t workers, const workspace& memory, int& shared) {
  return {workers, [workers, memory, &shared](index_t tasks, const one_task& task) {
            std::vector<std::byte> before(memory.begin(), memory.end());
            std::vector<index_t> writer(before.size(), -1);
            for (index_t t = 0; t < tasks; ++t) {
              const index_t worker = t % workers;
              task(t, worker);
              for (std::size_t i = 0; i < before.size(); ++i) {
                if (memory.data[i] == before[i]) continue;
                shared += writer[i] != -1 && writer[i] != worker;
                writer[i] = worker;
                before[i] = memory.data[i];
              }
            }
          }};
}

template <class F>
void for_each_policy(const F& f) {
  const amount b = slots(14);
  f(full{});
  f(kvevict::random{.budget = b, .seed = 3});
  f(streaming_llm{.budget = b});
  f(accumulated_attention{.budget = b});
  f(h2o{.budget = b, .sinks = 1});
  f(tova{.budget = b});
  f(snapkv<>{.budget = b, .window = 6, .pool_width = 5});
  f(nacl{.budget = b, .window = 6});
  f(ahakv<>{.budget = b, .window = 6});
  f(knorm{.budget = b});
  f(keydiff{.budget = b});
  f(decayed_keydiff{.budget = b, .window = 8});
  f(pyramidkv<>{.budget = b, .window = 4, .beta = 3});
  f(adakv{ahakv<>{.budget = b, .window = 6}});
  f(adakv{knorm{.budget = b}, 0.5, budget::safeguard::minimum});
}

using bytes = std::vector<std::byte>;

template <class Range>
void put(bytes& to, const Range& range) {
  const auto* first = reinterpret_cast<const std::byte*>(range.data());
  to.insert(to.end(), first, first + range.size() * sizeof(range[0]));
}

/// Slots of three rows that share a budget, long enough for several workers to share the search.
template <class Policy>
std::vector<index_t> of_long_rows(const Policy& policy, const runner& how) {
  static const std::vector<float> scores = host::normal(18000, 9);
  const std::vector<offset_t> places{0, 6000, 12000, 18000};
  const row_scores given{cache_shape{1, 1, 3}, {scores.data(), places.data(), 3}};
  host::scratch room(workspace_bytes(cpu{how}, policy, given));
  std::vector<index_t> chosen(scores.size(), -7);
  std::vector<offset_t> offsets(4, -7);
  if (!select(cpu{how}, policy, given, selection{chosen, offsets}, room.get()).ok())
    throw std::runtime_error("long rows");
  return chosen;
}

/// Everything that the entry points write for one policy: scores, selections, receipts, memory after every kind of
/// move, states. Two sequences of two layers, three heads each.
template <class Policy>
bytes all_results(const content<float>& c, const Policy& policy, const runner& how) {
  const cpu on{how};
  bytes out;
  const auto ok = [](const status& s) {
    if (!s.ok()) throw std::runtime_error(std::string(s.argument) + ": " + s.sentence);
  };
  auto store = host::in_strides(c, "hnd", hnd);
  const auto view = store.cache();
  const auto rows = std::size_t(c.shape.rows());
  const inputs in{view, c.query_rows_view()};
  host::kept kept = host::evict(policy, in, how);
  ok(kept.status);
  put(out, kept.slots);
  put(out, kept.offsets);
  put(out, kept.receipts);

  if constexpr (decltype(policy.rule())::joint) {  // the way of several ranks, with one of them
    const auto alone = [](const span<std::int64_t>&) { return true; };
    const inputs of_rank{view, c.query_rows_view(), rank_view{0, c.shape.kv_heads, alone}};
    const host::kept same = host::evict(policy, of_rank, how);
    ok(same.status);
    put(out, same.slots);
    put(out, of_long_rows(policy, how));
  }

  std::vector<float> scores;
  std::vector<offset_t> places{0};
  for (const auto& row : host::score(policy, in, how)) {
    scores.insert(scores.end(), row.begin(), row.end());
    places.push_back(offset_t(scores.size()));
  }
  put(out, scores);
  const row_scores given{c.shape, {scores.data(), places.data(), index_t(rows)}};
  host::scratch room(workspace_bytes(on, policy, given));
  std::vector<index_t> chosen(kept.slots.size(), -7);
  std::vector<offset_t> chosen_offsets(rows + 1, -7);
  ok(select(on, policy, given, selection{chosen, chosen_offsets}, room.get()));
  put(out, chosen);
  put(out, chosen_offsets);

  // Gathered with room for three more, which are appended; positions go along.
  std::vector<offset_t> offsets(rows + 1);
  flat_offsets(kept.view(), 3, offsets.data());
  auto keys = host::poisoned<float>(offsets.back() * c.dim),
       values = host::poisoned<float>(offsets.back() * c.value_dim);
  const index_t capacity = c.most + 3;
  const strided per_slot = hnd(c.shape.seqs, c.shape.kv_heads, capacity, 1);
  std::vector<index_t> positions(rows * std::size_t(capacity)), gathered(positions.size(), -7), lengths(rows),
      order(positions.size());
  for (std::size_t i = 0; i < positions.size(); ++i) {
    order[i] = index_t(i) % capacity;
    positions[i] = 2 * order[i];
  }
  retained_lengths(kept.view(), lengths.data());
  const cache packed{c.shape, lengths.data(), entries{keys.data(), flat{offsets.data(), c.dim}, c.dim},
                     entries{values.data(), flat{offsets.data(), c.value_dim}, c.value_dim}};
  ok(gather(on, view, kept.view(), packed, side(positions.data(), per_slot, gathered.data(), per_slot)));
  std::vector<index_t> three(rows, 3);
  ok(append(on, cache{c.shape, three.data(), view.keys(), view.values()}, packed, lengths));
  put(out, keys);
  put(out, values);
  put(out, gathered);
  put(out, lengths);

  auto swapped = store;
  auto sides = positions;
  ok(swap_fill(on, swapped.cache(), token_order{order.data(), per_slot}, kept.view(), side(sides.data(), per_slot)));
  put(out, swapped.keys);
  put(out, swapped.values);
  put(out, order);
  put(out, sides);
  sides = positions;
  auto slid = store;
  ok(compact_in_place(on, slid.cache(), kept.view(), side(sides.data(), per_slot)));
  const std::vector<double> frequencies(std::size_t(c.dim) / 2, 0.3);
  std::vector<index_t> from_zero(positions.size());
  for (std::size_t i = 0; i < from_zero.size(); ++i) from_zero[i] = index_t(i) % capacity;
  ok(rotate_keys(on, slid.cache(), rope{frequencies.data(), c.dim}, position_view{sides.data(), per_slot},
                 position_view{from_zero.data(), per_slot}));
  put(out, slid.keys);
  put(out, slid.values);
  put(out, sides);

  // A prompt in two pieces, an eviction, and the states that follow it.
  const sequence_extent extent{
      .shape = c.shape, .capacity = capacity, .query_heads = c.shape.kv_heads * c.group, .head_dim = c.dim};
  std::vector<std::vector<cache_line>> memory;
  std::vector<decode_state<>> states;
  for (index_t s = 0; s < c.shape.seqs; ++s) {
    memory.emplace_back(cache_lines(state_bytes(policy, extent)));
    states.emplace_back(workspace_of(memory.back()));
    ok(start(policy, extent, states.back()));
  }
  auto decoded = store;
  std::vector<index_t> part(rows), row_counts(std::size_t(c.shape.layers * c.shape.seqs));
  const inputs now{cache{c.shape, part.data(), decoded.cache().keys(), decoded.cache().values()},
                   query_view{c.query_rows_view().entries, c.shape.kv_heads * c.group, row_counts.data()}};
  for (const index_t left_out : {10, 0}) {
    for (std::size_t r = 0; r < rows; ++r) part[r] = c.lengths[r] - left_out;
    for (std::size_t i = 0; i < row_counts.size(); ++i) row_counts[i] = part[i * std::size_t(c.shape.kv_heads)];
    host::scratch work(workspace_bytes(on, policy, states, now));
    ok(observe(on, policy, states, now, work.get()));
  }
  host::scratch work(workspace_bytes(on, policy, states, now));
  std::vector<index_t> stay(std::size_t(selection_capacity(policy, states, now)), -7);
  std::vector<offset_t> stay_offsets(rows + 1, -7);
  const selection staying{stay, stay_offsets};
  ok(evict(on, policy, states, now, staying, work.get()));
  ok(compact_in_place(on, now.cache, staying, side(states)));
  put(out, stay);
  put(out, stay_offsets);
  put(out, decoded.keys);
  for (const auto& m : memory) put(out, m);
  return out;
}

}  // namespace

TEST_CASE("1, 2, 3 and 8 threads, 100 runs: the same bits from every policy and entry point") {
  const char* wanted = std::getenv("KVEVICT_RUNS");
  const int runs = wanted != nullptr ? std::atoi(wanted) : 100;
  const content<float> c(cache_shape{2, 2, 3}, {45, 19}, 8, 4, 2);
  crew one(1), two(2), three(3), eight(8);
  std::vector<runner> threads{one.executor(), two.executor(), three.executor(), eight.executor()};
#if !defined(KVEVICT_TEST_THREAD_SANITIZER)
  for (const index_t n : {2, 8})
    threads.push_back({n, [n](index_t tasks, const one_task& task) { openmp{.threads = n}.run(tasks, task); }});
#endif
  for_each_policy([&](const auto& policy) {
    const std::string name = std::remove_cvref_t<decltype(policy)>::name;
    CAPTURE(name);
    const bytes expected = all_results(c, policy, one_after_another);
    for (int run = 0; run < runs; ++run)
      for (const runner& how : threads) {
        CAPTURE(run);
        CAPTURE(how.count);
        REQUIRE((all_results(c, policy, how) == expected));
      }
  });
}

TEST_CASE("workers share no scratch: no byte of a workspace is written by two of them") {
  const content<float> c(cache_shape{2, 2, 3}, {45, 19}, 8, 4, 2);
  auto store = host::in_strides(c, "hnd", hnd);
  const inputs in{store.cache(), c.query_rows_view()};
  const auto rows = std::size_t(c.shape.rows());
  for_each_policy([&](const auto& policy) {
    const std::string name = std::remove_cvref_t<decltype(policy)>::name;
    CAPTURE(name);
    for (const index_t n : {2, 3}) {
      int shared = 0;
      host::scratch memory(workspace_bytes(cpu{runner{n, {}}}, policy, in));
      const cpu on{watching(n, memory.get(), shared)};
      std::vector<index_t> slots_of(std::size_t(selection_capacity(policy, in)));
      std::vector<offset_t> offsets(rows + 1), places{0};
      REQUIRE(evict(on, policy, in, selection{slots_of, offsets}, memory.get()).ok());
      CHECK(shared == 0);
      for (const index_t n_of_row : c.lengths) places.push_back(places.back() + n_of_row);
      std::vector<float> scores(std::size_t(places.back()));
      REQUIRE(score_rows(on, policy, in, {scores.data(), places.data(), index_t(rows)}, memory.get()).ok());
      CHECK(shared == 0);
      const row_scores given{c.shape, {scores.data(), places.data(), index_t(rows)}};
      REQUIRE(select(on, policy, given, selection{slots_of, offsets}, memory.get()).ok());
      CHECK(shared == 0);
    }
  });
}
