// SPDX-License-Identifier: MIT
// What an engine author writes: an eviction on FlashInfer's pages, wholly on the device. It neither waits nor
// allocates.
#pragma once

#include <kvevict/cuda.cuh>

#include "engine.cuh"

// ---- the glue ----
/// FlashInfer's table as rows of equal room, the pages that every sequence holds, and the length of every row.
static __global__ void read_pages(const engine e, int* table, int* held, int* lengths) {
  const int s = blockIdx.x, h = e.kv_heads, first = e.indptr[s], pages = e.indptr[s + 1] - first;
  for (int i = threadIdx.x; i < pages; i += blockDim.x) table[s * e.most_pages + i] = e.indices[first + i];
  for (int i = threadIdx.x; i < e.layers * h; i += blockDim.x)
    lengths[(i / h * e.seqs + s) * h + i % h] = (pages - 1) * e.page_size + e.last_page_len[s];
  held[s] = pages;
}
/// And back, behind an eviction that left every kv_head of every layer equally long.
static __global__ void write_pages(const engine e, const int* table, const int* held, const int* lengths) {
  int s = blockIdx.x, first = 0;
  for (int before = 0; before < s; ++before) first += held[before];
  for (int i = threadIdx.x; i < held[s]; i += blockDim.x) e.indices[first + i] = table[s * e.most_pages + i];
  e.indptr[s + 1] = first + held[s];  // indptr[0] is 0 and stays so
  e.last_page_len[s] = (lengths[s * e.kv_heads] - 1) % e.page_size + 1;
}
/// Evicts, compacts, and lists the pages that return to the pool: freed[0 .. *freed_count), room for all that are held.
kvevict::status evict_pages(const engine& e, const auto& policy, int* freed, kvevict::offset_t* freed_count) {
  using namespace kvevict;
  const cache_shape shape{e.layers, e.seqs, e.kv_heads};
  const offset_t rows = shape.rows(), room = rows * e.most_pages * e.page_size;
  carver place(e.scratch);
  int *table = place.take<int>(e.seqs * e.most_pages), *held = place.take<int>(e.seqs),
      *lengths = place.take<int>(rows);
  const selection kept{{place.take<index_t>(room), room}, {place.take<offset_t>(rows + 1), rows + 1}};
  const paged pages = (e.hnd ? paged_hnd : paged_nhd)(table, e.most_pages, e.page_size, e.kv_heads, e.dims, e.pages);
  const cache view{shape, lengths, entries{e.keys, pages, e.dims}, entries{e.values, pages, e.dims}};
  const entries rows_of_queries{e.queries, hnd(e.seqs, e.query_heads, e.window, e.dims), e.dims};
  const inputs in{view, query_view{rows_of_queries, e.query_heads, e.window}};
  const gpu on{e.stream, e.most_pages * e.page_size};
  const workspace memory{e.scratch + place.bytes(), offset_t(e.scratch_bytes) - place.bytes()};
  if (memory.size() < 1) return {status_code::small_workspace, "scratch", "the scratch memory is too small"};
  read_pages<<<e.seqs, 128, 0, e.stream>>>(e, table, held, lengths);
  status s = evict(on, policy, in, kept, memory);
  if (s.ok()) s = compact_in_place(on, view, kept);
  if (s.ok()) s = retained_lengths(on, kept, lengths);
  if (s.ok()) s = free_blocks(on, pages, shape, lengths, 0, {held}, {freed, e.seqs * e.most_pages}, freed_count);
  if (s.ok()) write_pages<<<e.seqs, 128, 0, e.stream>>>(e, table, held, lengths);
  return s;
}
// ---- end of glue ----
