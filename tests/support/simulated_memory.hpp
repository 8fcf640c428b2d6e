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

/// What has happened in a block: barriers, and fences before what reads shared memory on its own (wgmma).
struct times {
  long epoch = 0, fences = 0;
};

/// Who touched a word since the last barrier; 0 = nobody, -1 = several.
struct touched {
  long epoch = -1;
  int reader = 0, writer = 0, adder = 0;
  bool written = false;
  bool copied = false;  ///< a copy to it is on its way
  long fences = 0;      ///< before it was written

  static bool others(int who, int thread) { return who != 0 && who != thread + 1; }
  static void note(int& who, int thread) { who = who == 0 || who == thread + 1 ? thread + 1 : -1; }
  void enter(long now) {
    if (epoch != now) *this = {now, 0, 0, 0, written, copied, fences};
  }
  void read(int thread) {
    if (copied) throw hazard("a word is read before its copy has arrived");
    if (!written) throw hazard("a word is read before it is written");
    if (others(writer, thread) || others(adder, thread)) throw hazard("read beside a write: a barrier is missing");
    note(reader, thread);
  }
  void write(int thread) {
    if (copied) throw hazard("a word is written while a copy to it is on its way");
    if (others(writer, thread) || others(reader, thread) || others(adder, thread))
      throw hazard("written beside another access: a barrier is missing");
    note(writer, thread);
    written = true;
  }
  /// By wgmma, which reads for all threads.
  void read_alone(const times& now) {
    enter(now.epoch);
    if (!written || copied) throw hazard("wgmma reads a word before it is written");
    if (writer != 0 || adder != 0) throw hazard("wgmma reads beside a write: a barrier is missing");
    if (fences == now.fences) throw hazard("wgmma reads what no fence has shown to it");
    reader = -1;
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
  watched(T* data, offset_t count, const times* now, std::mutex* lock = nullptr, std::uint32_t address = 0)
      : data_(data),
        words_(std::make_shared<std::vector<touched>>(std::size_t(count))),
        now_(now),
        lock_(lock),
        address_(address) {}
  [[nodiscard]] std::uint32_t address() const { return address_; }
  [[nodiscard]] T* data() const { return data_; }
  [[nodiscard]] const std::shared_ptr<std::vector<touched>>& words() const { return words_; }
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
    w.fences = now_->fences;
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
  const times* now_;
  std::mutex* lock_;
  std::uint32_t address_;

  [[nodiscard]] std::unique_lock<std::mutex> hold() const {
    return lock_ == nullptr ? std::unique_lock<std::mutex>{} : std::unique_lock{*lock_};
  }
  [[nodiscard]] touched& at(offset_t i) const {
    if (i < 0 || i >= offset_t(words_->size())) throw hazard("index " + std::to_string(i) + " is outside");
    touched& w = (*words_)[std::size_t(i)];
    w.enter(now_->epoch);
    return w;
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
  const times* now_;

  template <class F>
  void each_word(offset_t i, const F& f) const {
    if (i < 0 || i >= count_) throw hazard("index " + std::to_string(i) + " is outside");
    for (std::uintptr_t word = 0; word < sizeof(T) / 4; ++word) {
      touched& w = (*words_)[reinterpret_cast<std::uintptr_t>(data_ + i) / 4 + word];
      w.enter(now_->epoch);
      f(w);
    }
  }
};

}  // namespace simulated
