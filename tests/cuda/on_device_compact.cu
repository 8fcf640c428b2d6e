// SPDX-License-Identifier: MIT
#include <kvevict/cuda/compact.cuh>

#include "on_device_compact.hpp"
#include "on_device_run.cuh"

namespace on_device {

using namespace kvevict;

namespace {

/// Everything of a compaction that lies on the device beside the caches.
struct on_the_device {
  const sides& from;
  device::array<index_t> slots;
  device::array<offset_t> offsets;
  device::array<index_t> words, lengths;
  device::array<odd_element> odd;

  on_the_device(const kept_slots& kept, const sides& beside)
      : from(beside),
        slots(kept.slots),
        offsets(kept.offsets),
        words(beside.words),
        lengths(kept.offsets.size() - 1),
        odd(beside.odd) {}

  [[nodiscard]] selection kept() const {
    return {{slots.data(), static_cast<offset_t>(slots.size())},
            {offsets.data(), static_cast<offset_t>(offsets.size())}};
  }
  /// Runs `call(gpu, sides...)` and then `retained_lengths`; both write what `out` holds.
  template <class Call>
  [[nodiscard]] std::string run(outputs& out, const scratch& memory, int runs, const Call& call) const {
    out.add(words);
    out.add(odd);
    out.add(lengths);
    return repeated(out, memory, runs, [&](const gpu& on) {
      const status s = call(on, side(words.data(), from.layout), side(odd.data(), from.layout));
      return s.ok() ? retained_lengths(on, kept(), lengths.data()) : s;
    });
  }
  template <class Copy>
  [[nodiscard]] auto result(const std::string& wrong, const Copy& cache) const {
    return compacted{
        wrong, cache.keys.host(), cache.values.host(), {from.layout, words.host(), odd.host()}, lengths.host(), {}};
  }
};

}  // namespace

template <class E, class From, class To>
compacted<E> gather(const host::stored<E, From, From>& from, const host::stored<E, To, To>& to, const kept_slots& kept,
                    const sides& beside, int runs) {
  const stored_copy source(from);
  const stored_copy target(to);
  const on_the_device all(kept, beside);
  outputs out;
  out.add(target.keys);
  out.add(target.values);
  return all.result(all.run(out, scratch(0), runs,
                            [&](const gpu& on, const auto&... s) {
                              return kvevict::gather(on, source.cache(), all.kept(), target.cache(), s...);
                            }),
                    target);
}

template <class E, class Layout>
compacted<E> compact_in_place(const host::stored<E, Layout, Layout>& in, const kept_slots& kept, const sides& beside,
                              int runs) {
  const stored_copy held(in);
  const on_the_device all(kept, beside);
  outputs out;
  out.add(held.keys);
  out.add(held.values);
  return all.result(all.run(out, scratch(0), runs,
                            [&](const gpu& on, const auto&... s) {
                              return kvevict::compact_in_place(on, held.cache(), all.kept(), s...);
                            }),
                    held);
}

template <class E, class Layout>
compacted<E> swap_fill(const host::stored<E, Layout, Layout>& in, const std::vector<index_t>& order,
                       const kept_slots& kept, const sides& beside, int runs) {
  const stored_copy held(in);
  const device::array<index_t> places(order);
  const on_the_device all(kept, beside);
  const scratch memory(swap_fill_workspace_bytes(gpu{}, all.kept()));
  outputs out;
  out.add(held.keys);
  out.add(held.values);
  out.add(places);
  auto result = all.result(
      all.run(
          out, memory, runs,
          [&](const gpu& on, const auto&... s) {
            return kvevict::swap_fill(on, held.cache(), {places.data(), beside.layout}, all.kept(), memory.get(), s...);
          }),
      held);
  result.order = places.host();
  return result;
}

#define KVEVICT_GATHER(E, From, To)                                                                                   \
  template compacted<E> gather(const host::stored<E, From, From>&, const host::stored<E, To, To>&, const kept_slots&, \
                               const sides&, int)
#define KVEVICT_WITHIN(E, Layout) \
  template compacted<E> compact_in_place(const host::stored<E, Layout, Layout>&, const kept_slots&, const sides&, int)
#define KVEVICT_SWAP(E, Layout)                                                                        \
  template compacted<E> swap_fill(const host::stored<E, Layout, Layout>&, const std::vector<index_t>&, \
                                  const kept_slots&, const sides&, int)

KVEVICT_GATHER(bfloat16, strided, flat);
KVEVICT_GATHER(bfloat16, paged, strided);
KVEVICT_GATHER(float, strided, strided);
KVEVICT_GATHER(float, flat, paged);
KVEVICT_WITHIN(bfloat16, strided);
KVEVICT_WITHIN(bfloat16, paged);
KVEVICT_WITHIN(float, strided);
KVEVICT_WITHIN(float, flat);
KVEVICT_SWAP(bfloat16, paged);
KVEVICT_SWAP(float, strided);

}  // namespace on_device
