// SPDX-License-Identifier: MIT
#pragma once

#include <cstdlib>
#include <vector>
#if defined(__linux__)
#include <sys/mman.h>
#endif

/// Memory as an engine takes it for a cache: at a huge page, and of huge pages where the system gives them on request.
/// With small ones, address translation would be measured along, most where entries are drawn by chance.
template <class T>
struct huge_pages {
  using value_type = T;

  huge_pages() = default;
  template <class U>
  huge_pages(const huge_pages<U>&) {}

  T* allocate(std::size_t count) {
    constexpr std::size_t page = std::size_t{2} << 20;
    const std::size_t bytes = (count * sizeof(T) + page - 1) / page * page;
    void* memory = std::aligned_alloc(page, bytes);
    if (memory == nullptr) throw std::bad_alloc();
#if defined(__linux__)
    madvise(memory, bytes, MADV_HUGEPAGE);  // a wish; small pages do as well
#endif
    return static_cast<T*>(memory);
  }
  void deallocate(T* memory, std::size_t) { std::free(memory); }
  friend bool operator==(const huge_pages&, const huge_pages&) { return true; }
};

template <class T>
using big_vector = std::vector<T, huge_pages<T>>;
