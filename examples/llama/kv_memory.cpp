// SPDX-License-Identifier: MIT
#include "kv_memory.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <stdexcept>

namespace {

std::int64_t page_bytes() {
  static const std::int64_t bytes = ::sysconf(_SC_PAGESIZE);
  return bytes;
}

std::int64_t whole_pages(std::int64_t bytes) { return (bytes + page_bytes() - 1) / page_bytes() * page_bytes(); }

float* reserve(std::int64_t bytes) {
  void* const place = ::mmap(nullptr, static_cast<std::size_t>(bytes), PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (place == MAP_FAILED) throw std::runtime_error("no address space for a cache of that capacity");
  ::madvise(place, static_cast<std::size_t>(bytes), MADV_NOHUGEPAGE);  // rows shall grow by small pages
  return static_cast<float*>(place);
}

}  // namespace

kv_memory::kv_memory(int layers, int kv_heads, int dims, int capacity)
    : layers_(layers),
      kv_heads_(kv_heads),
      dims_(dims),
      capacity_(capacity),
      row_floats_(whole_pages(std::int64_t{capacity} * dims * 4) / 4),
      keys_(reserve(all_bytes())),
      values_(reserve(all_bytes())),
      lengths_(static_cast<std::size_t>(layers * kv_heads)) {}

kv_memory::~kv_memory() {
  ::munmap(keys_, static_cast<std::size_t>(all_bytes()));
  ::munmap(values_, static_cast<std::size_t>(all_bytes()));
}

void kv_memory::release(int layer) {
#pragma omp parallel for
  for (int i = 0; i < 2 * kv_heads_; ++i) {
    const int h = i % kv_heads_;
    const std::int64_t used = whole_pages(std::int64_t{lengths(layer)[h]} * dims_ * 4);
    float* const row = i < kv_heads_ ? keys(layer, h) : values(layer, h);
    if (used < row_floats_ * 4)
      ::madvise(row + used / 4, static_cast<std::size_t>(row_floats_ * 4 - used), MADV_DONTNEED);
  }
}

void kv_memory::copy(const kv_memory& from) {
  lengths_ = from.lengths_;
  for (int layer = 0; layer < layers_; ++layer) {
    for (int h = 0; h < kv_heads_; ++h) {
      const auto bytes = static_cast<std::size_t>(lengths(layer)[h]) * static_cast<std::size_t>(dims_) * 4;
      std::memcpy(keys(layer, h), from.keys(layer, h), bytes);
      std::memcpy(values(layer, h), from.values(layer, h), bytes);
    }
    release(layer);
  }
}

std::int64_t kv_memory::slots() const { return std::accumulate(lengths_.begin(), lengths_.end(), std::int64_t{0}); }

std::int64_t kv_memory::resident_bytes() const {
  std::vector<unsigned char> pages(static_cast<std::size_t>(all_bytes() / page_bytes()));
  std::int64_t count = 0;
  for (float* part : {keys_, values_}) {
    if (::mincore(part, static_cast<std::size_t>(all_bytes()), pages.data()) != 0)
      throw std::runtime_error("the system does not say which pages of the cache exist");
    count += std::count_if(pages.begin(), pages.end(), [](unsigned char page) { return (page & 1) != 0; });
  }
  return count * page_bytes();
}
