// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <barrier>
#include <cstring>
#include <functional>
#include <kvevict/cuda/detail/block.hpp>
#include <kvevict/cuda/detail/fragments.hpp>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "simulated_memory.hpp"
#include "simulated_warpgroup.hpp"

/// Kernels on the host (kvevict/cuda/detail/block.hpp): the same source, with every order that the device may choose
/// drawn by chance, and with memory that notices what a lucky order would hide.
namespace simulated {

/// Threads of a block, by chance: powers of two and others.
[[nodiscard]] inline int threads_of(std::uint32_t chance) {
  constexpr int choices[] = {32, 64, 96, 128, 256};
  return choices[chance % std::size(choices)];
}

/// Memory that the blocks of a team share: how many elements, and whether a kernel before wrote them.
struct team_piece {
  offset_t count;
  bool written;
  team_piece(offset_t elements = 0, bool before = false) : count(elements), written(before) {}
};

/// What the blocks of a team share.
struct team_state {
  explicit team_state(int blocks) : meet(blocks) {}
  std::barrier<> meet;
  std::mutex lock;
  times now;
  std::map<const void*, std::shared_ptr<void>> memory;
  std::map<const void*, team_piece> pieces;  ///< said by the test
};

class block {
 public:
  template <class T>
  struct local {
    using cell = std::conditional_t<std::is_same_v<T, bool>, char, T>;  // a vector of bool has no references
    std::vector<cell> values;
    cell& operator[](int thread) { return values[std::size_t(thread)]; }
    T operator[](int thread) const { return T(values[std::size_t(thread)]); }
  };

  block(index_t index, int threads, offset_t shared_bytes, std::uint32_t seed, team_state* team = nullptr,
        int team_rank = 0, int team_size = 1, places* of_grid = nullptr)
      : index_(index),
        shared_(std::size_t(shared_bytes / 8 + 1), 0xff),
        chance_(seed),
        team_(team),
        rank_(team_rank),
        size_(team_size),
        of_grid_(of_grid),
        order_(std::size_t(threads)) {
    std::memset(shared_.data(), 0xff, shared_.size() * 8);
    for (int t = 0; t < threads; ++t) order_[std::size_t(t)] = t;
  }

  [[nodiscard]] index_t index() const { return index_; }
  [[nodiscard]] int threads() const { return int(order_.size()); }
  template <class F>
  void each(const F& f) {
    std::shuffle(order_.begin(), order_.end(), chance_);
    for (const int t : order_) f(t);
  }
  void sync() {
    now_.sync();
    of_block_.clear();
  }

  template <class T>
  [[nodiscard]] local<T> make_local() const {
    return {std::vector<typename local<T>::cell>(order_.size())};
  }
  template <class T>
  [[nodiscard]] watched<T> shared(offset_t count) {
    const offset_t bytes = (offset_t(sizeof(T)) * count + 15) / 16 * 16;
    if (used_ + bytes > offset_t(shared_.size()) * 8) throw hazard("more shared memory than was asked for");
    T* const data = reinterpret_cast<T*>(reinterpret_cast<std::byte*>(shared_.data()) + used_);
    const watched<T> array(data, count, &now_, nullptr, std::uint32_t(warpgroups::first_address + used_));
    warpgroups_.shared(array, bytes);
    used_ += bytes;
    return array;
  }
  void reuse_shared() {
    sync();
    std::memset(shared_.data(), 0xff, shared_.size() * 8);
    used_ = 0;
  }
  template <class T>
  [[nodiscard]] watched<T> team(T* data) {
    const std::lock_guard guard(team_->lock);
    auto& memory = team_->memory[data];
    const team_piece& piece = team_->pieces.at(data);
    if (memory == nullptr) {
      auto words = std::make_shared<watched<T>>(data, piece.count, &team_->now, &team_->lock);
      if (piece.written) words->mark_written();
      memory = words;
    }
    return *static_cast<watched<T>*>(memory.get());
  }
  template <class T>
  [[nodiscard]] T load(int thread, const void* place) {
    if (reinterpret_cast<std::uintptr_t>(place) % alignof(T) != 0) throw hazard("a load is not aligned");
    of_block_.read(place, sizeof(T), thread);
    if (of_grid_ != nullptr) of_grid_->read(place, sizeof(T), index_);
    T value;
    std::memcpy(static_cast<void*>(&value), place, sizeof(T));
    return value;
  }
  template <class T>
  void store(int thread, void* place, const T& value) {
    if (reinterpret_cast<std::uintptr_t>(place) % alignof(T) != 0) throw hazard("a store is not aligned");
    of_block_.write(place, sizeof(T), thread);
    if (of_grid_ != nullptr) of_grid_->write(place, sizeof(T), index_);
    std::memcpy(place, static_cast<const void*>(&value), sizeof(T));
  }
  [[nodiscard]] local<std::uint32_t> ballot(const local<bool>& x) const {
    auto mask = make_local<std::uint32_t>();
    for (int t = 0; t < threads(); ++t)
      for (int lane = 0; lane < 32; ++lane)
        if (x[t / 32 * 32 + lane]) mask[t] |= std::uint32_t{1} << lane;
    return mask;
  }
  template <class T>
  [[nodiscard]] local<T> shuffle_up(const local<T>& x, int lanes) const {
    auto from = x;
    for (int t = 0; t < threads(); ++t) from[t] = t % 32 >= lanes ? x[t - lanes] : x[t];
    return from;
  }
  template <class T>
  [[nodiscard]] local<T> shuffle_xor(const local<T>& x, int lanes) const {
    auto from = x;
    for (int t = 0; t < threads(); ++t) from[t] = x[t ^ lanes];
    return from;
  }
  template <class T>
  [[nodiscard]] own_array<T> global(T* data, offset_t count, bool given = false) {
    const own_array<T> array{data, count, &words_, &now_};
    if (given) array.take_as_given();
    return array;
  }
  /// The matrices are put together from what the lanes hold, multiplied, and taken apart again.
  template <class Element, class Sums, class Rows, class Columns>
  void mma(Sums& sums, const Rows& rows, const Columns& columns) const {
    if constexpr (std::is_same_v<Element, kvevict::detail::tf32>)
      mma_of_floats(sums, rows, columns);
    else
      mma_of_halves<Element>(sums, rows, columns);
  }
  template <class Place>
  void load_rows(local<kvevict::detail::mma_rows>& rows, const watched<std::uint32_t>& x, const Place& place) {
    for (int t = 0; t < threads(); ++t)
      for (int i = 0; i < 4; ++i) rows[t].x[i] = x.load(t, place(t / 32 * 32 + 8 * i + t % 32 / 4) + t % 4);
  }
  [[nodiscard]] static int recomputed(int x) { return x; }
  void sync_warp() { now_.sync_warp(); }
  template <class T>
  void copy_ahead(int thread, const watched<T>& to, offset_t i, const void* from, bool given = true) {
    constexpr offset_t elements = 16 / sizeof(T);
    const auto alignment = reinterpret_cast<std::uintptr_t>(from) % 16;
    if ((given && alignment != 0) || i % elements != 0) throw hazard("what is copied ahead is not aligned");
    copy c{thread, {}, to.data() + i, given ? from : nullptr};
    T nothing;
    std::memset(&nothing, 0xff, sizeof nothing);
    for (offset_t w = 0; w < elements; ++w) {
      to.store(thread, i + w, nothing);
      c.words.push_back(&(*to.words())[std::size_t(i + w)]);
      c.words.back()->copied = true;
    }
    copies_.push_back(c);
  }
  void copies_done() {
    for (const copy& c : copies_) {
      for (touched* word : c.words) {
        word->copied = false;
        word->write(c.thread, now_);  // now, and not when it was asked for
      }
      if (c.from != nullptr)
        std::memcpy(c.to, c.from, 16);
      else
        std::memset(c.to, 0, 16);
    }
    copies_.clear();
  }
  /// Barriers of which a thread may be at one while others are at the next (mbarrier).
  [[nodiscard]] watched<std::uint64_t> split_barriers(offset_t count) {
    barriers_.assign(std::size_t(count), {});
    return shared<std::uint64_t>(count);
  }
  void start_barrier(int thread, const watched<std::uint64_t>& x, offset_t i) {
    x.store(thread, i, 0);
    barriers_[std::size_t(i)].started = true;
  }
  void arrive(int thread, const watched<std::uint64_t>& x, offset_t i) {
    x.load(thread, i);
    split_barrier& s = barriers_[std::size_t(i)];
    if (!s.started || ++s.arrived > threads()) throw hazard("too many come to a barrier");
    if (s.arrived < threads()) return;
    s.arrived = 0;
    ++s.phase;
    s.completed = ++now_.now;
  }
  void wait(const watched<std::uint64_t>& x, offset_t i, int parity) {
    each([&](int t) { x.load(t, i); });
    const split_barrier& s = barriers_[std::size_t(i)];
    if (s.phase % 2 == parity) throw hazard("a barrier is waited for that nobody will complete");
    now_.released = std::max(now_.released, s.completed);
  }
  void wgmma_fence_stores() { ++now_.fences; }
  void wgmma_begin() { warpgroups_.begin(); }
  template <class Element, std::size_t Tiles>
  void wgmma(local<kvevict::detail::mma_sums> (&sums)[Tiles], const local<kvevict::detail::mma_rows>& rows,
             std::uint64_t columns, bool add) {
    std::vector<std::vector<kvevict::detail::mma_sums>*> tiles;
    for (auto& tile : sums) tiles.push_back(&tile.values);
    warpgroups_.start<Element>(tiles, rows.values, columns, add);
  }
  void wgmma_end() { warpgroups_.end(); }
  template <int Later, class... Sums>
  void wgmma_wait(Sums&...) {
    warpgroups_.wait(Later);
  }
  /// The kernel has ended.
  void ended() const {
    if (!copies_.empty()) throw hazard("a copy was on its way when the block ended");
    warpgroups_.ended();
  }
  template <class T>
  [[nodiscard]] T uniform(const local<T>& x) const {
    for (int t = 0; t < threads(); ++t)
      if (const T mine = x[t], first = x[0]; std::memcmp(&mine, &first, sizeof(T)) != 0)
        throw hazard("threads disagree on what decides for all of them");
    return x[0];
  }

  [[nodiscard]] int team_rank() const { return rank_; }
  [[nodiscard]] int team_size() const { return size_; }
  void team_sync() {
    sync();
    if (team_ == nullptr) return;
    team_->meet.arrive_and_wait();
    if (rank_ == 0) team_->now.sync();
    team_->meet.arrive_and_wait();
  }

 private:
  template <class Element, class Sums, class Rows, class Columns>
  void mma_of_halves(Sums& sums, const Rows& rows, const Columns& columns) const {
    const auto element = [](std::uint32_t word, int upper) {
      return to_float(Element{std::uint16_t(upper ? word >> 16 : word & 0xffff)});
    };
    for (int warp = 0; warp < threads(); warp += 32) {
      float a[16][16], b[16][8];
      for (int l = 0; l < 32; ++l)
        for (int e = 0; e < 8; ++e) {  // e / 2: the word, e % 2: its half
          const int g = l / 4, k = 2 * (l % 4) + e % 2;
          a[g + e / 2 % 2 * 8][k + e / 4 * 8] = element(rows[warp + l].x[e / 2], e % 2);
          if (e < 4) b[k + e / 2 * 8][g] = element(columns[warp + l].x[e / 2], e % 2);
        }
      for (int l = 0; l < 32; ++l)
        for (int e = 0; e < 4; ++e)
          for (int k = 0; k < 16; ++k) sums[warp + l].x[e] += a[l / 4 + e / 2 * 8][k] * b[k][2 * (l % 4) + e % 2];
    }
  }
  template <class Sums, class Rows, class Columns>
  void mma_of_floats(Sums& sums, const Rows& rows, const Columns& columns) const {
    const auto element = [](std::uint32_t word) {
      if ((word & 0x1fffu) != 0) throw hazard("a word has bits that a tf32 has no place for");
      return std::bit_cast<float>(word);
    };
    for (int warp = 0; warp < threads(); warp += 32) {
      float a[16][8], b[8][8];
      for (int l = 0; l < 32; ++l)
        for (int e = 0; e < 4; ++e) {
          a[l / 4 + e % 2 * 8][l % 4 + e / 2 * 4] = element(rows[warp + l].x[e]);
          if (e < 2) b[l % 4 + e * 4][l / 4] = element(columns[warp + l].x[e]);
        }
      for (int l = 0; l < 32; ++l)
        for (int e = 0; e < 4; ++e)
          for (int k = 0; k < 8; ++k) sums[warp + l].x[e] += a[l / 4 + e / 2 * 8][k] * b[k][2 * (l % 4) + e % 2];
    }
  }

  struct copy {
    int thread;
    std::vector<touched*> words;
    void* to;
    const void* from;  ///< nullptr: zeros
  };
  struct split_barrier {
    bool started = false;
    int arrived = 0, phase = 0;
    long completed = 0;
  };
  index_t index_;
  std::vector<std::uint64_t> shared_;
  offset_t used_ = 0;
  times now_;
  warpgroups warpgroups_{&now_};
  std::vector<copy> copies_;
  std::vector<split_barrier> barriers_;
  watched_words words_;
  std::mt19937 chance_;
  team_state* team_;
  int rank_, size_;
  places of_block_, *of_grid_;
  std::vector<int> order_;
};

/// Runs f(block) for every block of a grid, in random order.
template <class F>
void run_grid(index_t blocks, int threads, offset_t shared_bytes, std::uint32_t seed, const F& f) {
  std::vector<index_t> order(static_cast<std::size_t>(blocks));
  for (index_t i = 0; i < blocks; ++i) order[std::size_t(i)] = i;
  std::mt19937 chance(seed);
  std::shuffle(order.begin(), order.end(), chance);
  places of_grid;
  for (const index_t i : order) {
    block b(i, threads, shared_bytes, std::uint32_t(chance()), nullptr, 0, 1, &of_grid);
    f(b);
    b.ended();
  }
}

/// The same for a grid of teams, whose blocks run side by side. `shared_by_team`: what they pass to `team`.
template <class F>
void run_teams(index_t teams, int size, int threads, offset_t shared_bytes, std::uint32_t seed,
               const std::map<const void*, team_piece>& shared_by_team, const F& f) {
  std::mt19937 chance(seed);
  for (index_t team = 0; team < teams; ++team) {
    team_state state(size);
    state.pieces = shared_by_team;
    std::vector<std::exception_ptr> failed(static_cast<std::size_t>(size));
    std::vector<std::thread> side_by_side;
    for (int rank = 0; rank < size; ++rank)
      side_by_side.emplace_back([&, rank, own = std::uint32_t(chance())] {
        try {
          block b(team * size + rank, threads, shared_bytes, own, &state, rank, size);
          f(b);
          b.ended();
        } catch (...) {
          failed[std::size_t(rank)] = std::current_exception();
          state.meet.arrive_and_drop();
        }
      });
    for (std::thread& t : side_by_side) t.join();
    for (const std::exception_ptr& e : failed)
      if (e) std::rethrow_exception(e);
  }
}

}  // namespace simulated
