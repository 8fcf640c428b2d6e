// SPDX-License-Identifier: MIT
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <kvevict/core/element.hpp>

/// An engine whose cache lies in pages as FlashInfer's kernels read it. All memory is the device's.
///
/// Sequence s has the pages indices[indptr[s]] .. indices[indptr[s + 1]] (excluded), and last_page_len[s] slots of the
/// last of them are occupied; all layers and kv_heads share them. Keys and values are pools of pages, one per layer:
/// [layers][pages][page_size][kv_heads][dims] in the order NHD, [layers][pages][kv_heads][page_size][dims] in HND.
struct engine {
  int layers, seqs, kv_heads, query_heads, dims;
  int page_size, pages, most_pages;  // slots of a page, pages of a layer's pool, pages of the longest sequence
  bool hnd;
  kvevict::half *keys, *values;
  int *indptr, *indices, *last_page_len;
  int window;                    // query rows that the engine still has
  const kvevict::half* queries;  // [layers][seqs][query_heads][window][dims], after RoPE
  std::byte* scratch;            // at a multiple of 64 bytes; its contents mean nothing
  std::size_t scratch_bytes;
  cudaStream_t stream;
};
