// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/cpu.hpp>
#include <kvevict/cpu/openmp.hpp>
#include <kvevict/policy/spec.hpp>
#include <vector>

// The names that the snippets of the headers use: an engine's memory and extents.
using namespace kvevict;

inline float* const pointer = nullptr;
inline const index_t seqs = 1, kv_heads = 2, query_heads = 4, capacity = 64, head_dim = 8, rows = 32;
inline const strided layout = hnd(seqs, kv_heads, capacity, 1);
inline const entries queries{pointer, hnd(seqs, query_heads, rows, head_dim), head_dim};
inline const entries dense{pointer, hnd(seqs, kv_heads, capacity, head_dim), head_dim};
inline const cache view{cache_shape{1, 1, kv_heads}, capacity, dense, dense};
inline const inputs in{view, query_view{queries, query_heads, rows}};
inline const snapkv<> policy{};
inline const selection kept{};
inline const float* const norms = nullptr;
inline const double* const frequencies = nullptr;
inline index_t* const positions = nullptr;
inline index_t* const lengths = nullptr;
template <class Policy>
void use(const Policy&) {}
