// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <kvevict/core/status.hpp>
#include <kvevict/core/types.hpp>

namespace kvevict {

/// Every carve-out starts on a cache line, so workers never share one.
inline constexpr std::size_t workspace_alignment = 64;

/// Scratch memory of the caller, aligned to `workspace_alignment`. Its contents mean nothing before and after.
using workspace = span<std::byte>;

/// A piece of such memory; a container of these is aligned as a workspace must be.
///
/// @code
/// std::vector<cache_line> scratch(cache_lines(workspace_bytes(cpu{}, policy, in)));
/// status s = evict(cpu{}, policy, in, kept, workspace_of(scratch));
/// @endcode
struct alignas(workspace_alignment) cache_line {
  std::byte bytes[workspace_alignment];
};

/// How many of them hold that many bytes.
[[nodiscard]] constexpr std::size_t cache_lines(offset_t bytes) {
  return (static_cast<std::size_t>(bytes) + workspace_alignment - 1) / workspace_alignment;
}

/// A workspace from a container of cache lines.
template <class Range>
[[nodiscard]] workspace workspace_of(Range& lines) {
  return {reinterpret_cast<std::byte*>(lines.data()), static_cast<offset_t>(lines.size() * workspace_alignment)};
}

/// Hands out pieces of a workspace one after another. Without memory it only counts, so the same sequence of
/// `take` calls measures and places and the two can never disagree.
class carver {
 public:
  constexpr carver() = default;
  KVEVICT_HOST_DEVICE constexpr explicit carver(std::byte* memory) : memory_(memory) {}

  template <class T>
  KVEVICT_HOST_DEVICE constexpr T* take(offset_t count) {
    std::byte* piece = memory_ == nullptr ? nullptr : memory_ + used_;
    used_ += round_up(static_cast<offset_t>(sizeof(T)) * count);
    return reinterpret_cast<T*>(piece);
  }
  /// A second carver of `bytes` bytes, for one worker's scratch.
  KVEVICT_HOST_DEVICE constexpr carver branch(offset_t bytes) { return carver(take<std::byte>(bytes)); }

  [[nodiscard]] KVEVICT_HOST_DEVICE constexpr offset_t bytes() const { return used_; }
  [[nodiscard]] KVEVICT_HOST_DEVICE static constexpr offset_t round_up(offset_t bytes) {
    constexpr auto step = static_cast<offset_t>(workspace_alignment);
    return (bytes + step - 1) / step * step;
  }

 private:
  std::byte* memory_ = nullptr;
  offset_t used_ = 0;
};

namespace detail {

/// A workspace that has what a call needs.
[[nodiscard]] inline status check_workspace(const workspace& memory, offset_t needed) {
  if (memory.size() < needed)
    return {status_code::small_workspace, "workspace", "the workspace is too small; see workspace_bytes", needed};
  if (needed > 0 && memory.data == nullptr)
    return {status_code::bad_pointer, "workspace", "the workspace is null", needed};
  if (reinterpret_cast<std::uintptr_t>(memory.data) % workspace_alignment != 0)
    return {status_code::small_workspace, "workspace", "the workspace must start at a multiple of 64 bytes", needed};
  return {};
}

}  // namespace detail

}  // namespace kvevict
