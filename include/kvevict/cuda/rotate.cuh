// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/compact/gather.hpp>
#include <kvevict/cuda/compact/rotate.hpp>
#include <kvevict/cuda/detail/launch.cuh>
#include <kvevict/view/check.hpp>

namespace kvevict {

namespace detail {

inline constexpr int rotate_threads = 512;

template <class Task>
struct rotate_body {
  Task task;
  template <class Block>
  __device__ void operator()(Block& b) const {
    rotate_rows(b, task);
  }
};

}  // namespace detail

/// Turns the cached keys from the positions they were written at to others, in place on the device, in one launch. The
/// frequencies and both positions are the device's memory. A compaction does the same while it moves them if it is
/// given `turned_keys` (compact/rope.hpp).
///
/// Key of slot j, pair i: turned by (to[j] - from[j]) * frequencies[i]. The angle is exact to 2e-9 radians wherever the
/// positions are (cuda/compact/turn.hpp), sines and products are fp32, and the result is rounded once to the element:
/// within 1e-6 relative of rotating in double, but not always in the CPU's last bit. A slot whose position stays is not
/// touched. fp32, fp16 and bf16 keys. `gpu::longest`, where it is given, keeps the grid small. Errors: null pointers, a
/// bad shape or embedding, a refused launch.
template <cache_view Cache>
[[nodiscard]] status rotate_keys(const gpu& on, const Cache& cache, const rope& embedding, const position_view& from,
                                 const position_view& to) {
  if (const status s = detail::check_entries(cache); !s.ok()) return s;
  if (const status s = detail::check_rotation(cache, embedding, from, to); !s.ok()) return s;
  const auto keys = detail::deal(cache.keys(), detail::own_memory{}, dense_dims(cache.keys()), 1,
                                 detail::key_turn{{embedding, from, to}});
  using task_type = detail::rotate_task<Cache, std::remove_const_t<decltype(keys)>>;
  const task_type task{
      cache, {keys, {}}, detail::shares_of(cache.shape().rows(), on.longest > 0 ? on.longest : most_slots)};
  return detail::launch<detail::rotate_threads>(on, task.blocks(), detail::turn_table_bytes(task.keys),
                                                detail::rotate_body<task_type>{task});
}

}  // namespace kvevict
