// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/detail/block.hpp>
#include <kvevict/cuda/detail/entry_elements.hpp>
#include <kvevict/select/order.hpp>

/// A row of scores as a block passes over it, several times: as keys, of which a thread asks for 8 at a time, since
/// one at a time would leave the memory idle. What fits stays in shared memory from the first pass on.
namespace kvevict::detail {

/// A score as an unsigned number whose digits are searched.
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr std::uint32_t radix_key(float score) {
  return static_cast<std::uint32_t>(order_key(score)) ^ 0x80000000u;
}

/// Has the lowest key.
[[nodiscard]] KVEVICT_HOST_DEVICE constexpr float not_a_number() { return bits_as<float>(0x7fc00000u); }

/// Neighbouring keys, those of 16 bytes of scores.
struct alignas(16) four_keys {
  std::uint32_t x[4];
};
inline constexpr index_t fours_at_once = 2;
struct key_batch {
  four_keys of[fours_at_once];
};

/// Shared memory for the keys of one row, and whose they are.
template <class Block>
struct key_room {
  decltype(std::declval<Block&>().template shared<four_keys>(0)) keys;
  index_t fours = 0;
  const float* holds = nullptr;
  std::uint32_t count = 0;

  KVEVICT_HOST_DEVICE static key_room take(Block& b, index_t fours) {
    return {b.template shared<four_keys>(fours), fours};
  }
};

[[nodiscard]] KVEVICT_HOST_DEVICE constexpr offset_t key_bytes(index_t fours) {
  return fours * static_cast<offset_t>(sizeof(four_keys));
}

/// The keys of a row, by fours. These begin at multiples of 16 bytes: the first and the last may reach beyond the row,
/// where keys are 0, the lowest.
template <class Block>
class row_keys {
 public:
  KVEVICT_HOST_DEVICE row_keys(const float* scores, index_t count, key_room<Block>& room)
      : scores_(scores),
        count_(static_cast<std::uint32_t>(count)),
        before_(static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(scores) / sizeof(float) % 4)),
        room_(&room),
        held_(room.holds == scores && room.count == count_ ? most() : 0) {}

  [[nodiscard]] KVEVICT_HOST_DEVICE index_t fours() const { return static_cast<index_t>((before_ + count_ + 3) / 4); }
  /// The slot of a four's first key. What lies before the row is a large number.
  [[nodiscard]] KVEVICT_HOST_DEVICE std::uint32_t slot(index_t four) const {
    return 4 * static_cast<std::uint32_t>(four) - before_;
  }
  /// Keys of the fours that are not the row's.
  [[nodiscard]] KVEVICT_HOST_DEVICE index_t absent() const {
    return static_cast<index_t>(4 * static_cast<std::uint32_t>(fours()) - count_);
  }
  /// And those of them that lie before it.
  [[nodiscard]] KVEVICT_HOST_DEVICE index_t before() const { return static_cast<index_t>(before_); }

  /// The fours first, first + step, ..; zeros where the row has none.
  KVEVICT_HOST_DEVICE void load(Block& b, int t, index_t first, index_t step, key_batch& x) const {
    if (first + (fours_at_once - 1) * step < held_) {
      KVEVICT_UNROLLED for (int k = 0; k < fours_at_once; ++k) x.of[k] = room_->keys.load(t, first + k * step);
      return;
    }
    four_floats scores[fours_at_once];
    if (whole(slot(first)) && whole(slot(first + (fours_at_once - 1) * step))) {
      KVEVICT_UNROLLED for (int k = 0; k < fours_at_once; ++k) scores[k] =
          b.template load<four_floats>(t, scores_ + slot(first + k * step));
    } else {
      KVEVICT_UNROLLED for (int k = 0; k < fours_at_once; ++k) {
        const std::uint32_t at = slot(first + k * step);
        KVEVICT_UNROLLED for (std::uint32_t j = 0; j < 4; ++j) scores[k].x[j] =
            has(at + j) ? scores_[at + j] : not_a_number();
      }
    }
    KVEVICT_UNROLLED for (int k = 0; k < fours_at_once; ++k) {
      const index_t four = first + k * step;
      KVEVICT_UNROLLED for (int j = 0; j < 4; ++j) x.of[k].x[j] = radix_key(scores[k].x[j]);
      if (four >= held_ && four < most()) room_->keys.store(t, four, x.of[k]);
    }
  }

  /// All threads have loaded all fours, and come here behind a barrier.
  KVEVICT_HOST_DEVICE void passed() {
    room_->holds = scores_;
    room_->count = count_;
    held_ = most();
  }

 private:
  const float* scores_;
  std::uint32_t count_, before_;
  key_room<Block>* room_;
  index_t held_;

  [[nodiscard]] KVEVICT_HOST_DEVICE index_t most() const { return least(room_->fours, fours()); }
  [[nodiscard]] KVEVICT_HOST_DEVICE bool has(std::uint32_t slot) const { return slot < count_; }
  [[nodiscard]] KVEVICT_HOST_DEVICE bool whole(std::uint32_t slot) const { return has(slot) && has(slot + 3); }
};

}  // namespace kvevict::detail
