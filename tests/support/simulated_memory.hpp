// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <kvevict/core/types.hpp>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

/// Memory of a simulated block that notices what a lucky order of its threads would hide.
namespace simulated {

using kvevict::index_t;
using kvevict::offset_t;

/// A kernel did what gives different results on different days.
struct hazard : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// What has happened in a block, counted. Its threads are at one place of the source at a time; what the device may do
/// later or earlier than that follows from what they have waited for.
struct times {
  long now = 0;
  long released = 0;       ///< what was before this is done, for all threads
  long warp_released = 0;  ///< and for those of the same warp
  long fences = 0;         ///< before what reads shared memory on its own (wgmma)

  void sync() { released = ++now; }
  void sync_warp() { warp_released = ++now; }
};

/// Who touched a word, and when for the last time: 0 = nobody, -1 = several, -2 - w = several of warp w.
struct touch {
  int who = 0;
  long when = 0;

  static int warp(int who) { return who > 0 ? (who - 1) / 32 : -2 - who; }
  /// Whether others may do so still.
  [[nodiscard]] bool beside(int thread, const times& t) const {
    if (who == 0 || who == thread + 1 || when < t.released) return false;
    return who == -1 || warp(who) != thread / 32 || when >= t.warp_released;
  }
  void note(int thread, const times& t) {
    const bool alone = who == 0 || who == thread + 1 || when < t.released;
    who = alone ? thread + 1 : who != -1 && warp(who) == thread / 32 ? -2 - thread / 32 : -1;
    when = t.now;
  }
};

struct touched {
  touch reader, writer, adder;
  bool written = false;
  bool copied = false;  ///< a copy to it is on its way
  long fences = 0;      ///< before it was written

  void read(int thread, const times& t) {
    if (copied) throw hazard("a word is read before its copy has arrived");
    if (!written) throw hazard("a word is read before it is written");
    if (writer.beside(thread, t) || adder.beside(thread, t)) throw hazard("read beside a write: a barrier is missing");
    reader.note(thread, t);
  }
  void write(int thread, const times& t) {
    if (copied) throw hazard("a word is written while a copy to it is on its way");
    if (writer.beside(thread, t) || reader.beside(thread, t) || adder.beside(thread, t))
      throw hazard("written beside another access: a barrier is missing");
    writer.note(thread, t);
    written = true;
    fences = t.fences;
  }
  void add(int thread, const times& t) {
    if (!written) throw hazard("added to before it is written");
    if (writer.beside(thread, t) || reader.beside(thread, t)) throw hazard("added to beside another access");
    adder.note(thread, t);
  }
  /// By wgmma, which reads for all threads.
  void read_alone(const times& t) {
    if (!written || copied) throw hazard("wgmma reads a word before it is written");
    if (writer.beside(-1, t) || adder.beside(-1, t)) throw hazard("wgmma reads beside a write: a barrier is missing");
    if (fences == t.fences) throw hazard("wgmma reads what no fence has shown to it");
    reader = {-1, t.now};
  }
};

/// Who read and wrote the bytes of the device's memory, be it threads until a barrier or blocks until the end.
class places {
 public:
  void read(const void* place, std::size_t bytes, int who) {
    for (seen* w : of(place, bytes)) {
      if (others(w->writer, who)) throw hazard("memory is read beside a write: nothing puts one before the other");
      note(w->reader, who);
    }
  }
  void write(const void* place, std::size_t bytes, int who) {
    for (seen* w : of(place, bytes)) {
      if (others(w->writer, who) || others(w->reader, who)) throw hazard("memory is written beside another access");
      note(w->writer, who);
    }
  }
  void clear() { bytes_.clear(); }

 private:
  struct seen {
    int reader = 0, writer = 0;
  };
  std::unordered_map<const std::byte*, seen> bytes_;

  [[nodiscard]] std::vector<seen*> of(const void* place, std::size_t bytes) {
    std::vector<seen*> all;
    for (std::size_t i = 0; i < bytes; ++i) all.push_back(&bytes_[static_cast<const std::byte*>(place) + i]);
    return all;
  }
  static bool others(int who, int self) { return who != 0 && who != self + 1; }
  static void note(int& who, int self) { who = who == 0 || who == self + 1 ? self + 1 : -1; }
};

/// Memory that several threads share, between barriers that are counted.
template <class T>
class watched {
 public:
  watched(T* data, offset_t count, const times* now, std::mutex* lock = nullptr, std::uint32_t address = 0)
      : data_(data),
        words_(std::make_shared<std::vector<touched>>(std::size_t(count))),
        now_(now),
        lock_(lock),
        address_(address) {}
  [[nodiscard]] std::uint32_t address() const { return address_; }
  [[nodiscard]] T* data() const { return data_; }
  [[nodiscard]] const std::shared_ptr<std::vector<touched>>& words() const { return words_; }
  /// As if a kernel before had written all of it.
  void mark_written() const {
    for (touched& w : *words_) w.written = true;
  }
  T load(int thread, offset_t i) const {
    const auto guard = hold();
    at(i).read(thread, *now_);
    return data_[i];
  }
  void store(int thread, offset_t i, T value) const {
    const auto guard = hold();
    at(i).write(thread, *now_);
    data_[i] = value;
  }
  T add(int thread, offset_t i, T value) const {
    const auto guard = hold();
    at(i).add(thread, *now_);
    const T before = data_[i];
    data_[i] += value;
    return before;
  }

 private:
  T* data_;
  std::shared_ptr<std::vector<touched>> words_;
  const times* now_;
  std::mutex* lock_;
  std::uint32_t address_;

  [[nodiscard]] std::unique_lock<std::mutex> hold() const {
    return lock_ == nullptr ? std::unique_lock<std::mutex>{} : std::unique_lock{*lock_};
  }
  [[nodiscard]] touched& at(offset_t i) const {
    if (i < 0 || i >= offset_t(words_->size())) throw hazard("index " + std::to_string(i) + " is outside");
    return (*words_)[std::size_t(i)];
  }
};

/// Memory of the device that one block has to itself, watched by address: pieces of it are used again as other arrays.
using watched_words = std::unordered_map<std::uintptr_t, touched>;
template <class T>
class own_array {
 public:
  own_array(T* data, offset_t count, watched_words* words, const times* now)
      : data_(data), count_(count), words_(words), now_(now) {}
  T load(int thread, offset_t i) const {
    each_word(i, [&](touched& w) { w.read(thread, *now_); });
    return data_[i];
  }
  void store(int thread, offset_t i, T value) const {
    each_word(i, [&](touched& w) { w.write(thread, *now_); });
    data_[i] = value;
  }
  /// What it holds may be read.
  void take_as_given() const {
    for (offset_t i = 0; i < count_; ++i) each_word(i, [](touched& w) { w.written = true; });
  }

 private:
  T* data_;
  offset_t count_;
  watched_words* words_;
  const times* now_;

  template <class F>
  void each_word(offset_t i, const F& f) const {
    if (i < 0 || i >= count_) throw hazard("index " + std::to_string(i) + " is outside");
    for (std::uintptr_t word = 0; word < sizeof(T) / 4; ++word) {
      f((*words_)[reinterpret_cast<std::uintptr_t>(data_ + i) / 4 + word]);
    }
  }
};

}  // namespace simulated
