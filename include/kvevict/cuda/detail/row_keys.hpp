// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cuda/detail/block.hpp>
#include <kvevict/cuda/detail/entry_elements.hpp>
#include <kvevict/select/order.hpp>

/// A row of scores as a block passes over it, several times: as keys, of which a thread asks for 8 at a time, since
/// one at a time would leave the memory idle. What fits stays in shared memory from the first pass on.
namespace kvevict::detail {

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

/// Keys that are listed agree in the bits from here on: the first digit of a search.
inline constexpr int list_shift = 21;

/// Shared memory for the keys of one row, as many as fit, and whose they are; and a list of some of its keys.
template <class Block>
struct key_room {
  decltype(std::declval<Block&>().template shared<four_keys>(0)) keys;
  index_t fours = 0;
  decltype(std::declval<Block&>().template shared<std::uint32_t>(0)) list;
  decltype(std::declval<Block&>().template shared<index_t>(0)) found;  ///< so many are in the list, while it grows
  index_t list_room = 0;
  const float* holds = nullptr;
  std::uint32_t count = 0;
  index_t listed = -1;         ///< -1: nothing is
  std::uint32_t list_key = 0;  ///< whose upper bits all listed keys have

  KVEVICT_HOST_DEVICE static key_room take(Block& b, index_t fours, index_t list_room = 0) {
    const auto keys = b.template shared<four_keys>(fours);
    const auto list = b.template shared<std::uint32_t>(list_room);
    return {keys, fours, list, b.template shared<index_t>(list_room > 0 ? 1 : 0), list_room};
  }
};

[[nodiscard]] KVEVICT_HOST_DEVICE constexpr offset_t key_bytes(index_t fours) {
  return fours * static_cast<offset_t>(sizeof(four_keys));
}

/// Keys that a selection can list: more than a digit of 11 bits leaves of most rows.
inline constexpr index_t most_listed_keys = 2048;
inline constexpr offset_t key_list_bytes = most_listed_keys * sizeof(std::uint32_t) + 16;

/// The keys of a row, by fours. These begin at multiples of 16 bytes: the first and the last may reach beyond the row,
/// where keys are 0, the lowest.
template <class Block>
class row_keys {
 public:
  KVEVICT_HOST_DEVICE row_keys(const float* scores, index_t count, key_room<Block>& room)
      : scores_(scores),
        count_(static_cast<std::uint32_t>(count)),
        before_(static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(scores) / sizeof(float) % 4)),
        room_(&room) {}

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

  /// f(thread, keys) for all fours of the row, in any order. The first time, those for which there is room come into
  /// the shared memory: all of their copies are on their way at once, and thread t has the fours t, t + threads, ..
  template <class F>
  KVEVICT_HOST_DEVICE void each_four(Block& b, const F& f) {
    const bool known_before = known();
    const index_t held = most(), step = b.threads();
    if (!known_before) {
      b.each([&](int t) {
        KVEVICT_ROLLED for (index_t four = t; four < held; four += step) {
          if (whole(slot(four)))
            b.copy_ahead(t, room_->keys, four, scores_ + slot(four));
          else
            room_->keys.store(t, four, bits_of(edge(four)));
        }
      });
    }
    b.each([&](int t) {
      KVEVICT_ROLLED for (index_t first = held + t; first < fours(); first += fours_at_once * step) {
        const key_batch x = loaded(b, t, first, step);
        KVEVICT_UNROLLED for (index_t k = 0; k < fours_at_once; ++k) {
          if (first + k * step < fours()) f(t, x.of[k]);
        }
      }
    });
    if (!known_before) b.copies_done();
    b.each([&](int t) {
      KVEVICT_ROLLED for (index_t four = t; four < held; four += step) {
        four_keys x = room_->keys.load(t, four);
        if (!known_before) {
          KVEVICT_UNROLLED for (int j = 0; j < 4; ++j) x.x[j] = radix_key(bits_as<float>(x.x[j]));
          room_->keys.store(t, four, x);
        }
        f(t, x);
      }
    });
  }
  /// Behind a barrier after `each_four`.
  KVEVICT_HOST_DEVICE void passed() {
    if (!known()) room_->listed = -1;
    room_->holds = scores_;
    room_->count = count_;
  }

  /// Neighbouring fours; zeros where the row has none.
  [[nodiscard]] KVEVICT_HOST_DEVICE key_batch load(Block& b, int t, index_t first) const {
    if (!known() || first + fours_at_once > most()) return loaded(b, t, first, 1);
    key_batch x;
    KVEVICT_UNROLLED for (int k = 0; k < fours_at_once; ++k) x.of[k] = room_->keys.load(t, first + k);
    return x;
  }

  [[nodiscard]] KVEVICT_HOST_DEVICE const key_room<Block>& room() const { return *room_; }
  /// How many keys are listed, if they are those that have the upper bits of `key`; else -1.
  [[nodiscard]] KVEVICT_HOST_DEVICE index_t listed(std::uint32_t key) const {
    return known() && (key ^ room_->list_key) >> list_shift == 0 ? room_->listed : -1;
  }
  /// All of the row's keys that have the upper bits of `key` have been listed.
  KVEVICT_HOST_DEVICE void has_listed(index_t count, std::uint32_t key) {
    room_->listed = count;
    room_->list_key = key;
  }

 private:
  const float* scores_;
  std::uint32_t count_, before_;
  key_room<Block>* room_;

  /// Whether the shared memory holds this row's keys.
  [[nodiscard]] KVEVICT_HOST_DEVICE bool known() const { return room_->holds == scores_ && room_->count == count_; }
  [[nodiscard]] KVEVICT_HOST_DEVICE index_t most() const { return least(room_->fours, fours()); }
  [[nodiscard]] KVEVICT_HOST_DEVICE bool has(std::uint32_t slot) const { return slot < count_; }
  [[nodiscard]] KVEVICT_HOST_DEVICE bool whole(std::uint32_t slot) const { return has(slot) && has(slot + 3); }

  /// A four of which the row has not all.
  [[nodiscard]] KVEVICT_HOST_DEVICE four_floats edge(index_t four) const {
    four_floats x;
    KVEVICT_UNROLLED for (std::uint32_t j = 0; j < 4; ++j) x.x[j] =
        has(slot(four) + j) ? scores_[slot(four) + j] : not_a_number();
    return x;
  }
  [[nodiscard]] KVEVICT_HOST_DEVICE static four_keys bits_of(const four_floats& scores) {
    four_keys x;
    KVEVICT_UNROLLED for (int j = 0; j < 4; ++j) x.x[j] = bits_as<std::uint32_t>(scores.x[j]);
    return x;
  }
  /// The fours first, first + step, .. from the device's memory.
  [[nodiscard]] KVEVICT_HOST_DEVICE key_batch loaded(Block& b, int t, index_t first, index_t step) const {
    four_floats scores[fours_at_once];
    if (whole(slot(first)) && whole(slot(first + (fours_at_once - 1) * step))) {
      KVEVICT_UNROLLED for (int k = 0; k < fours_at_once; ++k) scores[k] =
          b.template load<four_floats>(t, scores_ + slot(first + k * step));
    } else {
      KVEVICT_UNROLLED for (int k = 0; k < fours_at_once; ++k) scores[k] = edge(first + k * step);
    }
    key_batch x;
    KVEVICT_UNROLLED for (int k = 0; k < fours_at_once; ++k) {
      KVEVICT_UNROLLED for (int j = 0; j < 4; ++j) x.of[k].x[j] = radix_key(scores[k].x[j]);
    }
    return x;
  }
};

}  // namespace kvevict::detail
