// SPDX-License-Identifier: MIT
#pragma once

#include <mpi.h>

#include <kvevict/view/ranks.hpp>

namespace kvevict {

/// The all-reduce of `rank_view` over MPI; blocking. The program links MPI.
///     inputs in{view, rows, rank_view{first_kv_head, kv_heads, mpi_sum{communicator}}};
struct mpi_sum {
  MPI_Comm communicator = MPI_COMM_WORLD;

  [[nodiscard]] bool operator()(const span<std::int64_t>& values) const {
    return MPI_Allreduce(MPI_IN_PLACE, values.data, static_cast<int>(values.size()), MPI_INT64_T, MPI_SUM,
                         communicator) == MPI_SUCCESS;
  }
};

}  // namespace kvevict
