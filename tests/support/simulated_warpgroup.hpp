// SPDX-License-Identifier: MIT
#pragma once

#include <cstring>
#include <kvevict/core/element.hpp>
#include <kvevict/cuda/detail/fragments.hpp>
#include <limits>
#include <list>
#include <map>

#include "simulated_memory.hpp"

namespace simulated {

/// Matrices that warpgroups multiply on their own (kvevict/cuda/detail/warpgroup.hpp), by the PTX manual: the columns
/// are found through the bits of the descriptor, and what is multiplied is so as late as the device may do it.
///
/// Sums are NaN until they are waited for. Whoever changes rows, columns or sums meanwhile is found, and so is who
/// forgot a fence.
class warpgroups {
 public:
  using lanes_sums = std::vector<kvevict::detail::mma_sums>;
  using lanes_rows = std::vector<kvevict::detail::mma_rows>;
  static constexpr int warpgroup = 128;  ///< threads
  static constexpr std::uint32_t first_address = 1024;

  explicit warpgroups(const times* now) : now_(now) {}

  /// An array of shared memory, to be found by its address.
  template <class T>
  void shared(const watched<T>& array, offset_t bytes) {
    memory_.push_back({array.address(), std::uint32_t(bytes), sizeof(T),
                       reinterpret_cast<const std::byte*>(array.data()), array.words()});
  }
  void begin() { begun_ = true; }
  /// sums[n]: of the columns 8 n .. 8 n + 7.
  template <class Element>
  void start(const std::vector<lanes_sums*>& sums, const lanes_rows& rows, std::uint64_t descriptor, bool add) {
    if (!begun_) throw hazard("wgmma without a fence for its registers");
    if (rows.size() % warpgroup != 0) throw hazard("wgmma needs whole warpgroups");
    products_.push_back({sums, &rows, rows, descriptor, columns_of(descriptor, sums.size() * 8), add, groups_,
                         [](std::uint16_t bits) { return to_float(Element{bits}); }});
    for (lanes_sums* tile : sums) {
      if (const auto [place, first] = in_flight_.try_emplace(tile, *tile); !first) check_untouched(*tile);
      for (auto& lane : *tile)
        for (float& x : lane.x) x = std::numeric_limits<float>::quiet_NaN();
    }
  }
  void end() {
    begun_ = false;
    ++groups_;
  }
  void wait(int later) {
    if (begun_) throw hazard("wgmma is waited for inside of a group");
    for (; !products_.empty() && products_.front().group < groups_ - later; products_.pop_front()) finish();
  }
  void ended() const {
    if (!products_.empty()) throw hazard("nobody has waited for a wgmma");
  }

 private:
  using bits16 = std::uint16_t;
  struct region {
    std::uint32_t address, bytes;
    std::size_t word;
    const std::byte* data;
    std::shared_ptr<std::vector<touched>> words;
  };
  struct product {
    std::vector<lanes_sums*> sums;
    const lanes_rows* rows;
    lanes_rows rows_at_start;
    std::uint64_t descriptor;
    std::vector<bits16> columns_at_start;  ///< [column][k]
    bool add;
    int group;
    float (*number)(bits16);
  };

  const times* now_;
  std::vector<region> memory_;
  bool begun_ = false;
  int groups_ = 0;
  std::list<product> products_;
  std::map<lanes_sums*, lanes_sums> in_flight_;  ///< what the sums will be, so far

  static void check_untouched(const lanes_sums& tile) {
    for (const auto& lane : tile)
      for (const float x : lane.x)
        if (x == x) throw hazard("sums are written while wgmma has them");
  }
  /// Two bytes of shared memory.
  [[nodiscard]] bits16 read(std::uint32_t address) const {
    for (const region& r : memory_)
      if (address >= r.address && address < r.address + r.bytes) {
        const std::size_t at = address - r.address;
        if (at / r.word >= r.words->size()) break;
        (*r.words)[at / r.word].read_alone(*now_);
        bits16 bits;
        std::memcpy(&bits, r.data + at, sizeof(bits));
        return bits;
      }
    throw hazard("wgmma reads outside of shared memory");
  }
  /// Columns of 16 k, K-major with a swizzle of 128 bytes: bits 4 to 6 of an address are those and bits 7 to 9 of what
  /// it would be without.
  [[nodiscard]] std::vector<bits16> columns_of(std::uint64_t descriptor, std::size_t count) const {
    const auto field = [&](int first) { return std::uint32_t(descriptor >> first & 0x3fff) << 4; };
    const std::uint32_t start = field(0), stride = field(32);
    if (descriptor >> 62 != 1) throw hazard("only a swizzle of 128 bytes is simulated");
    if ((descriptor >> 46 & 0xffff) != 0) throw hazard("this descriptor has a base offset, which is not simulated");
    std::vector<bits16> columns;
    for (std::uint32_t n = 0; n < count; ++n)
      for (std::uint32_t k = 0; k < 16; ++k) {
        const std::uint32_t plain = start + n / 8 * stride + n % 8 * 128 + k * 2;
        columns.push_back(read(plain ^ (plain >> 7 & 7) << 4));
      }
    return columns;
  }
  /// The oldest product.
  void finish() {
    const product& p = products_.front();
    const std::vector<bits16> columns = columns_of(p.descriptor, p.sums.size() * 8);
    if (columns != p.columns_at_start) throw hazard("columns are overwritten while wgmma reads them");
    for (std::size_t l = 0; l < p.rows->size(); ++l)
      if (std::memcmp(&(*p.rows)[l], &p.rows_at_start[l], sizeof(p.rows_at_start[l])) != 0)
        throw hazard("rows are overwritten while wgmma reads them");
    std::vector<float> b;
    for (const bits16 bits : columns) b.push_back(p.number(bits));
    for (std::size_t n = 0; n < p.sums.size(); ++n) {
      check_untouched(*p.sums[n]);
      lanes_sums& sums = in_flight_.at(p.sums[n]);
      for (std::size_t t = 0; t < sums.size(); ++t)  // lane 4 g + q of a warp has the rows g and g + 8
        for (std::size_t e = 0; e < 4; ++e) {
          float sum = p.add ? sums[t].x[e] : 0;
          for (std::size_t k = 0; k < 16; ++k) {  // four lanes have the k of a row, two in a word
            const std::uint32_t word = p.rows_at_start[t / 4 * 4 + k % 8 / 2].x[k / 8 * 2 + e / 2];
            sum += p.number(bits16(k % 2 == 0 ? word & 0xffff : word >> 16)) * b[(n * 8 + t % 4 * 2 + e % 2) * 16 + k];
          }
          sums[t].x[e] = sum;
        }
      bool later = false;
      for (auto other = std::next(products_.begin()); other != products_.end(); ++other)
        for (const lanes_sums* tile : other->sums) later = later || tile == p.sums[n];
      if (later) continue;
      *p.sums[n] = sums;
      in_flight_.erase(p.sums[n]);
    }
  }
};

}  // namespace simulated
