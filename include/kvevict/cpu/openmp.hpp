// SPDX-License-Identifier: MIT
#pragma once

#if !defined(_OPENMP)
#error "kvevict/cpu/openmp.hpp needs OpenMP: compile with -fopenmp (CMake: link OpenMP::OpenMP_CXX)"
#endif
#include <omp.h>

#include <kvevict/cpu/backend.hpp>

namespace kvevict {

/// Tasks on OpenMP threads, handed out one by one because rows differ in cost.
struct openmp {
  index_t threads = omp_get_max_threads();

  [[nodiscard]] index_t workers() const { return threads < 1 ? 1 : threads; }
  template <class Task>
  void run(index_t tasks, const Task& task) const {
    if (workers() == 1) return serial{}.run(tasks, task);  // a team takes 0.2 us to open
#pragma omp parallel for schedule(dynamic, 1) num_threads(workers())
    for (index_t t = 0; t < tasks; ++t) task(t, static_cast<index_t>(omp_get_thread_num()));
  }
};

}  // namespace kvevict
