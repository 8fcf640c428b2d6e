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
#include <unordered_map>
#include <vector>

/// Kernels on the host (kvevict/cuda/detail/block.hpp): the same source, with every order that the device may choose
/// drawn by chance, and with memory that notices what a lucky order would hide.
namespace simulated {

using kvevict::index_t;
using kvevict::offset_t;

/// A kernel did what gives different results on different days.
struct hazard : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Who touched a word since the last barrier; 0 = nobody, -1 = several.
struct touched {
  long epoch = -1;
  int reader = 0, writer = 0, adder = 0;
  bool written = false;

  static bool others(int who, int thread) { return who != 0 && who != thread + 1; }
  static void note(int& who, int thread) { who = who == 0 || who == thread + 1 ? thread + 1 : -1; }
  void enter(long now) {
    if (epoch != now) *this = {now, 0, 0, 0, written};
  }
  void read(int thread) {
    if (!written) throw hazard("a word is read before it is written");
    if (others(writer, thread) || others(adder, thread)) throw hazard("read beside a write: a barrier is missing");
    note(reader, thread);
  }
  void write(int thread) {
    if (others(writer, thread) || others(reader, thread) || others(adder, thread))
      throw hazard("written beside another access: a barrier is missing");
    note(writer, thread);
    written = true;
  }
};

/// Who read and wrote the bytes of the device's memory, be it threads until a barrier or blocks until the end.
class places {
 public:
  void read(const void* place, std::size_t bytes, int who) {
    for (touched* w : of(place, bytes)) {
      if (others(w->writer, who)) throw hazard("memory is read beside a write: nothing puts one before the other");
      note(w->reader, who);
    }
  }
  void write(const void* place, std::size_t bytes, int who) {
    for (touched* w : of(place, bytes)) {
      if (others(w->writer, who) || others(w->reader, who)) throw hazard("memory is written beside another access");
      note(w->writer, who);
    }
  }
  void clear() { bytes_.clear(); }

 private:
  std::unordered_map<const std::byte*, touched> bytes_;

  [[nodiscard]] std::vector<touched*> of(const void* place, std::size_t bytes) {
    std::vector<touched*> all;
    for (std::size_t i = 0; i < bytes; ++i) all.push_back(&bytes_[static_cast<const std::byte*>(place) + i]);
    return all;
  }
  static bool others(int seen, int who) { return seen != 0 && seen != who + 1; }
  static void note(int& seen, int who) { seen = seen == 0 || seen == who + 1 ? who + 1 : -1; }
};

/// Memory that several threads share, between barriers that are counted.
template <class T>
class watched {
 public:
  watched(T* data, offset_t count, const long* epoch, std::mutex* lock = nullptr, bool written = false)
      : data_(data), words_(std::make_shared<std::vector<touched>>(std::size_t(count))), epoch_(epoch), lock_(lock) {
    for (touched& w : *words_) w.written = written;
  }
  T load(int thread, offset_t i) const {
    const auto guard = hold();
    touched& w = at(i);
    w.read(thread);
    return data_[i];
  }
  void store(int thread, offset_t i, T value) const {
    const auto guard = hold();
    touched& w = at(i);
    w.write(thread);
    data_[i] = value;
  }
  void add(int thread, offset_t i, T value) const {
    const auto guard = hold();
    touched& w = at(i);
    if (!w.written) throw hazard("added to before it is written");
    if (touched::others(w.writer, thread) || touched::others(w.reader, thread))
      throw hazard("added to beside another access");
    touched::note(w.adder, thread);
    data_[i] += value;
  }

 private:
  T* data_;
  std::shared_ptr<std::vector<touched>> words_;
  const long* epoch_;
  std::mutex* lock_;

  [[nodiscard]] std::unique_lock<std::mutex> hold() const {
    return lock_ == nullptr ? std::unique_lock<std::mutex>{} : std::unique_lock{*lock_};
  }
  [[nodiscard]] touched& at(offset_t i) const {
    if (i < 0 || i >= offset_t(words_->size())) throw hazard("index " + std::to_string(i) + " is outside");
    touched& w = (*words_)[std::size_t(i)];
    w.enter(*epoch_);
    return w;
  }
};

/// Memory of the device that one block has to itself, watched by address: pieces of it are used again as other arrays.
using watched_words = std::unordered_map<std::uintptr_t, touched>;
template <class T>
class own_array {
 public:
  own_array(T* data, offset_t count, watched_words* words, const long* epoch)
      : data_(data), count_(count), words_(words), epoch_(epoch) {}
  T load(int thread, offset_t i) const {
    each_word(i, [&](touched& w) { w.read(thread); });
    return data_[i];
  }
  void store(int thread, offset_t i, T value) const {
    each_word(i, [&](touched& w) { w.write(thread); });
    data_[i] = value;
  }

 private:
  T* data_;
  offset_t count_;
  watched_words* words_;
  const long* epoch_;

  template <class F>
  void each_word(offset_t i, const F& f) const {
    if (i < 0 || i >= count_) throw hazard("index " + std::to_string(i) + " is outside");
    for (std::uintptr_t word = 0; word < sizeof(T) / 4; ++word) {
      touched& w = (*words_)[reinterpret_cast<std::uintptr_t>(data_ + i) / 4 + word];
      w.enter(*epoch_);
      f(w);
    }
  }
};

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
  long epoch = 0;
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
    ++epoch_;
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
    used_ += bytes;
    return {data, count, &epoch_};
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
    if (memory == nullptr)
      memory = std::make_shared<watched<T>>(data, piece.count, &team_->epoch, &team_->lock, piece.written);
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
  [[nodiscard]] own_array<T> global(T* data, offset_t count) {
    return {data, count, &words_, &epoch_};
  }
  /// The matrices are put together from what the lanes hold, multiplied, and taken apart again.
  template <class Element, class Sums, class Rows, class Columns>
  void mma(Sums& sums, const Rows& rows, const Columns& columns) const {
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
    if (rank_ == 0) ++team_->epoch;
    team_->meet.arrive_and_wait();
  }

 private:
  index_t index_;
  std::vector<std::uint64_t> shared_;
  offset_t used_ = 0;
  long epoch_ = 0;
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
