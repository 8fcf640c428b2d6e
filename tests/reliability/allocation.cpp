// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "../support/sequence.hpp"

/// Counts every allocation of the program: malloc itself where no sanitizer has taken its place, otherwise new.
namespace {
std::atomic<long> allocations{0};
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define KVEVICT_TEST_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define KVEVICT_TEST_SANITIZED 1
#endif
#endif

#if !defined(KVEVICT_TEST_SANITIZED)
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_memalign(std::size_t, std::size_t);
void* malloc(std::size_t bytes) {
  ++allocations;
  return __libc_malloc(bytes);
}
void* aligned_alloc(std::size_t alignment, std::size_t bytes) {
  ++allocations;
  return __libc_memalign(alignment, bytes);
}
int posix_memalign(void** out, std::size_t alignment, std::size_t bytes) {
  ++allocations;
  *out = __libc_memalign(alignment, bytes);
  return *out == nullptr ? 12 : 0;
}
}
#else
void* operator new(std::size_t bytes) {
  ++allocations;
  if (void* p = std::malloc(bytes)) return p;
  throw std::bad_alloc();
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
#endif

using namespace kvevict;

namespace {

/// Runs f and says how often it allocated.
template <class F>
long allocated_by(const F& f) {
  const long before = allocations;
  f();
  return allocations - before;
}

template <class F>
void for_each_policy(const F& f) {
  const amount b = slots(40);
  f(full{});
  f(kvevict::random{.budget = b});
  f(streaming_llm{.budget = b});
  f(accumulated_attention{.budget = b});
  f(h2o{.budget = b});
  f(tova{.budget = b});
  f(snapkv<>{.budget = b, .window = 8});
  f(nacl{.budget = b, .window = 8});
  f(ahakv<>{.budget = b, .window = 8});
  f(knorm{.budget = b});
  f(keydiff{.budget = b});
  f(decayed_keydiff{.budget = b, .window = 8});
  f(pyramidkv<>{.budget = b});
  f(adakv{snapkv<>{.budget = b, .window = 8}});
  f(adakv{ahakv<>{.budget = b, .window = 8}, 0.3, budget::safeguard::minimum});
}

}  // namespace

TEST_CASE("the counter counts") {
  CHECK(allocated_by([] {
          void* volatile p = ::operator new(3);
          ::operator delete(p);
        }) >= 1);
  CHECK(allocated_by([] {}) == 0);
}

TEST_CASE("no entry point allocates") {
  constexpr index_t length = 700, dim = 16, heads = 2, group = 2;
  for_each_policy([&](const auto& policy) {
    CAPTURE(std::remove_cvref_t<decltype(policy)>::name);
    host::problem p(heads, group, length, dim, dim, length);
    const inputs in{p.cache(), p.query_rows()};
    std::vector<index_t> slots_of(std::size_t(selection_capacity(policy, in))), common(std::size_t(heads * length)),
        lengths(heads, length), order(std::size_t(heads * length)), positions(std::size_t(heads * length)), freed(64);
    std::vector<offset_t> offsets(heads + 1), common_offsets(heads + 1), score_offsets{0, length, 2 * length};
    std::vector<row_receipt> receipts(heads);
    std::vector<float> scores(std::size_t(heads * length)), keys = p.keys, values = p.values;
    for (index_t i = 0; i < heads * length; ++i) order[std::size_t(i)] = positions[std::size_t(i)] = i % length;
    const selection kept{slots_of, offsets, receipts};
    const sequence_extent extent{
        .shape = in.cache.shape(), .capacity = length, .query_heads = heads * group, .head_dim = dim};
    std::vector<cache_line> memory(cache_lines(state_bytes(policy, extent)));
    const decode_state state{workspace_of(memory)};
    host::scratch room(std::max({workspace_bytes(cpu{}, policy, in), one_set_bytes(p.cache())}) + 4096);
    REQUIRE(start(policy, extent, state).ok());
    host::scratch state_room(workspace_bytes(cpu{}, policy, state, in));
    const workspace work = room.get(), state_work = state_room.get();
    const strided layout = hnd(1, heads, length, dim), per_slot = hnd(1, heads, length, 1);
    const cache target{in.cache.shape(), lengths.data(), entries{keys.data(), layout, dim},
                       entries{values.data(), layout, dim}};
    const ragged<float> out{scores.data(), score_offsets.data(), heads};
    const row_scores given{in.cache.shape(), {scores.data(), score_offsets.data(), heads}};
    std::vector<double> frequencies(dim / 2, 0.5);
    std::vector<index_t> none(heads, 0), table(heads * 8, 1), held(heads, 8);
    bool ok = true;
    const auto run = [&](const status& s) { ok = ok && s.ok(); };
    CHECK(allocated_by([&] {
            run(evict(cpu{}, policy, in, kept, work));
            run(one_set(p.cache(), kept, token_set::vote, set_scope::layer, {common, common_offsets}, work));
            run(score_rows(cpu{}, policy, in, out, work));
            run(select(cpu{}, policy, given, kept, work));
            run(start(policy, extent, state));
            run(observe(cpu{}, policy, state, in, state_work));
            run(evict(cpu{}, policy, state, in, kept, state_work));
            run(gather(cpu{}, p.cache(), kept, target));
            run(compact_in_place(cpu{}, target, kept, side(state), side(positions.data(), per_slot)));
            run(swap_fill(cpu{}, target, token_order{order.data(), per_slot}, kept));
            run(rotate_keys(cpu{}, target, rope{frequencies.data(), dim}, position_view{positions.data(), per_slot},
                            position_view{order.data(), per_slot}));
            run(append(cpu{}, key_cache{in.cache.shape(), none.data(), p.cache().keys()}, target, lengths));
            offset_t count = 0;
            run(free_blocks(paged_per_row(table.data(), 8, 128, dim), in.cache.shape(), lengths.data(), 0,
                            {held.data()}, freed, count));
          }) == 0);
    CHECK(ok);
  });
}
