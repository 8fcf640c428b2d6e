// SPDX-License-Identifier: MIT
// Tensor parallelism: every process holds some kv_heads of a layer, and Ada-KV shares the budget over all of them.
//
//     mpiexec -n 4 ranks
#include <cmath>
#include <cstdio>
#include <kvevict/cpu.hpp>
#include <kvevict/mpi.hpp>
#include <vector>

using namespace kvevict;

constexpr index_t all_heads = 8, group = 4, length = 2000, dims = 64, window = 32;

/// The kv_heads first .. first + heads of a layer, as a process holds them.
struct shard {
  index_t first, heads;
  std::vector<float> keys, values, queries;

  shard(index_t from, index_t count) : first(from), heads(count) {
    const auto wave = [&](std::vector<float>& to, index_t per_head, float frequency) {
      for (index_t i = first * per_head; i < (first + heads) * per_head; ++i)
        to.push_back(2 * std::sin(frequency * float(offset_t{i} * i % 10007)));
    };
    wave(keys, length * dims, 0.37F);
    wave(values, length * dims, 0.53F);
    wave(queries, group * window * dims, 0.71F);
  }
};

/// The retained slots of the shard's heads; `more` is what the inputs hold beside cache and queries.
template <class... More>
std::vector<std::vector<index_t>> evict_shard(const shard& s, const More&... more) {
  const cache view{cache_shape{1, 1, s.heads}, length, entries{s.keys.data(), hnd(1, s.heads, length, dims), dims},
                   entries{s.values.data(), hnd(1, s.heads, length, dims), dims}};
  const query_view rows{entries{s.queries.data(), hnd(1, s.heads * group, window, dims), dims}, s.heads * group,
                        window};
  const inputs in{view, rows, more...};
  const adakv policy{snapkv<>{.budget = slots(256), .window = window}};

  std::vector<index_t> slots_of(static_cast<std::size_t>(selection_capacity(policy, in)));
  std::vector<offset_t> offsets(static_cast<std::size_t>(s.heads) + 1);
  std::vector<cache_line> scratch(cache_lines(workspace_bytes(cpu{}, policy, in)));
  const selection kept{slots_of, offsets};
  std::vector<std::vector<index_t>> heads;
  if (const status result = evict(cpu{}, policy, in, kept, workspace_of(scratch)); !result.ok())
    std::printf("%s: %s\n", result.argument, result.sentence);
  else
    for (index_t h = 0; h < s.heads; ++h) heads.emplace_back(kept[h].begin(), kept[h].end());
  return heads;
}

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  int rank = 0, size = 1;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  const shard mine(all_heads * rank / size, all_heads * (rank + 1) / size - all_heads * rank / size);

  const auto kept = evict_shard(mine, rank_view{mine.first, all_heads, mpi_sum{}});

  // One process with all heads keeps the same slots.
  const auto alone = evict_shard(shard(0, all_heads));
  int different = kept.size() == static_cast<std::size_t>(mine.heads) ? 0 : 1;
  for (std::size_t h = 0; h < kept.size(); ++h) different += kept[h] != alone[static_cast<std::size_t>(mine.first) + h];
  for (int turn = 0; turn < size; ++turn) {
    if (turn == rank) {
      std::printf("rank %d of %d:", rank, size);
      for (const auto& head : kept) std::printf(" %zu", head.size());
      std::printf(" slots%s\n", different == 0 ? ", as one process keeps them" : ", NOT what one process keeps");
      std::fflush(stdout);
    }
    MPI_Barrier(MPI_COMM_WORLD);
  }
  MPI_Finalize();
  return different == 0 ? 0 : 1;
}
