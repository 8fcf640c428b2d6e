// SPDX-License-Identifier: MIT
// A prompt of two sequences in FlashInfer's pages is evicted on the device (evict_pages.cuh), in both page orders, and
// the host looks at what is left. Where there is no GPU it says so and exits with 77.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <vector>

#include "evict_pages.cuh"

namespace {

/// Memory that host and device both see; the process keeps it until it ends.
template <class T>
T* both_see(std::size_t count) {
  void* memory = nullptr;
  if (const cudaError_t error = cudaMallocManaged(&memory, count * sizeof(T)); error != cudaSuccess) {
    std::printf("cudaMallocManaged: %s\n", cudaGetErrorString(error));
    std::exit(1);
  }
  return static_cast<T*>(memory);
}

/// Where key or value of a slot lies.
std::size_t place(const engine& e, int layer, int page, int slot, int head, int dim) {
  const std::size_t in_layer = static_cast<std::size_t>(layer) * e.pages + page;
  return e.hnd ? ((in_layer * e.kv_heads + head) * e.page_size + slot) * e.dims + dim
               : ((in_layer * e.page_size + slot) * e.kv_heads + head) * e.dims + dim;
}

int length_of(const engine& e, int s) { return (e.indptr[s + 1] - e.indptr[s] - 1) * e.page_size + e.last_page_len[s]; }

/// A prompt of those lengths in pages from all over the pool. Dim 0 of every key is the number of its token, with the
/// other sign in its value, so that one sees what stayed.
engine with_prompt(bool hnd, const std::vector<int>& lengths) {
  engine e{.layers = 2, .seqs = static_cast<int>(lengths.size()), .kv_heads = 2, .query_heads = 8, .dims = 64};
  e.page_size = 16;
  e.pages = 128;
  e.most_pages = 48;
  e.hnd = hnd;
  e.window = 16;
  const std::size_t elements = std::size_t{2} * e.pages * e.page_size * e.kv_heads * e.dims;
  e.keys = both_see<kvevict::half>(elements);
  e.values = both_see<kvevict::half>(elements);
  e.indptr = both_see<int>(e.seqs + 1);
  e.indices = both_see<int>(e.seqs * e.most_pages);
  e.last_page_len = both_see<int>(e.seqs);
  const int query_elements = e.layers * e.seqs * e.query_heads * e.window * e.dims;
  auto* const queries = both_see<kvevict::half>(query_elements);
  for (int i = 0; i < query_elements; ++i)
    queries[i] = kvevict::to_half(i % e.dims == 0 ? 0 : std::cos(0.53F * (i % 997)));
  e.queries = queries;
  e.scratch_bytes = std::size_t{64} << 20;
  e.scratch = both_see<std::byte>(e.scratch_bytes);
  e.indptr[0] = 0;
  for (int s = 0; s < e.seqs; ++s) {
    const int pages = (lengths[s] + e.page_size - 1) / e.page_size;
    e.indptr[s + 1] = e.indptr[s] + pages;
    e.last_page_len[s] = (lengths[s] - 1) % e.page_size + 1;
    for (int i = e.indptr[s]; i < e.indptr[s + 1]; ++i) e.indices[i] = i * 37 % e.pages;  // 37 and 128 share no factor
    for (int token = 0; token < lengths[s]; ++token)
      for (int at = 0; at < e.layers * e.kv_heads * e.dims; ++at) {
        const int dim = at % e.dims, head = at / e.dims % e.kv_heads, layer = at / e.dims / e.kv_heads;
        const std::size_t i =
            place(e, layer, e.indices[e.indptr[s] + token / e.page_size], token % e.page_size, head, dim);
        const float x = dim == 0 ? static_cast<float>(token) : std::sin(0.37F * ((token * 7 + at) % 1009));
        e.keys[i] = kvevict::to_half(x);
        e.values[i] = kvevict::to_half(-x);
      }
  }
  return e;
}

/// Whether every head of a sequence has its tokens in order, the newest among them, keys beside their values.
bool in_order(const engine& e, int s, int newest) {
  for (int layer = 0; layer < e.layers; ++layer)
    for (int head = 0; head < e.kv_heads; ++head) {
      float last = -1;
      for (int slot = 0; slot < length_of(e, s); ++slot) {
        const std::size_t i = place(e, layer, e.indices[e.indptr[s] + slot / e.page_size], slot % e.page_size, head, 0);
        const float token = kvevict::to_float(e.keys[i]);
        if (token <= last || kvevict::to_float(e.values[i]) != -token) return false;
        last = token;
      }
      if (last != static_cast<float>(newest)) return false;
    }
  return true;
}

}  // namespace

int main() {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::printf("skipped: no CUDA device; compiled, not run\n");
    return 77;
  }
  const std::vector<int> lengths{700, 333};
  for (const bool hnd : {false, true}) {
    const engine e = with_prompt(hnd, lengths);
    std::vector<int> before(e.indices, e.indices + e.indptr[e.seqs]), after;
    int* const freed = both_see<int>(e.seqs * e.most_pages);
    auto* const freed_count = both_see<kvevict::offset_t>(1);
    const kvevict::status s =
        evict_pages(e, kvevict::snapkv<>{.budget = kvevict::slots(100), .window = e.window}, freed, freed_count);
    if (!s.ok()) {
      std::printf("%s: %s\n", s.argument, s.sentence);
      return 1;
    }
    if (const cudaError_t error = cudaStreamSynchronize(e.stream); error != cudaSuccess) {
      std::printf("the device: %s\n", cudaGetErrorString(error));
      return 1;
    }
    for (int seq = 0; seq < e.seqs; ++seq) {
      std::printf("%s, sequence %d: %3d of %3d slots stay, in %d pages, the last with %d slots\n", hnd ? "HND" : "NHD",
                  seq, length_of(e, seq), lengths[seq], e.indptr[seq + 1] - e.indptr[seq], e.last_page_len[seq]);
      if (length_of(e, seq) != 100 || !in_order(e, seq, lengths[seq] - 1)) {
        std::printf("not what an eviction to 100 slots leaves\n");
        return 1;
      }
    }
    // Every page is either held or free, none twice.
    after.assign(e.indices, e.indices + e.indptr[e.seqs]);
    after.insert(after.end(), freed, freed + *freed_count);
    std::sort(before.begin(), before.end());
    std::sort(after.begin(), after.end());
    std::printf("%s: %d pages return to the pool\n", hnd ? "HND" : "NHD", static_cast<int>(*freed_count));
    if (before != after) {
      std::printf("pages were lost, or freed twice\n");
      return 1;
    }
  }
}
