// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <kvevict/core/types.hpp>

namespace kvevict {

/// Every carve-out starts on a cache line, so workers never share one.
inline constexpr std::size_t workspace_alignment = 64;

/// Scratch memory of the caller, aligned to `workspace_alignment`. Its contents mean nothing before and after.
using workspace = span<std::byte>;

/// Hands out pieces of a workspace one after another. Without memory it only counts, so the same sequence of
/// `take` calls measures and places and the two can never disagree.
class carver {
 public:
  constexpr carver() = default;
  constexpr explicit carver(std::byte* memory) : memory_(memory) {}

  template <class T>
  constexpr T* take(offset_t count) {
    std::byte* piece = memory_ == nullptr ? nullptr : memory_ + used_;
    used_ += round_up(static_cast<offset_t>(sizeof(T)) * count);
    return reinterpret_cast<T*>(piece);
  }
  /// A second carver of `bytes` bytes, for one worker's scratch.
  constexpr carver branch(offset_t bytes) { return carver(take<std::byte>(bytes)); }

  [[nodiscard]] constexpr offset_t bytes() const { return used_; }
  [[nodiscard]] static constexpr offset_t round_up(offset_t bytes) {
    constexpr auto step = static_cast<offset_t>(workspace_alignment);
    return (bytes + step - 1) / step * step;
  }

 private:
  std::byte* memory_ = nullptr;
  offset_t used_ = 0;
};

}  // namespace kvevict
