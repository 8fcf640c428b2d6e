// SPDX-License-Identifier: MIT
#pragma once

#include "kv_memory.hpp"

/// Causal attention of one layer's new tokens over its cache, whose rows hold the tokens' own slots last: token t of
/// `tokens` sees length - tokens + t + 1 slots of a row of that length, whatever has been evicted before them.
///
///     queries, out   [tokens][query_heads][dims]
///     log_sum_exp    [query_heads][tokens], of the scaled logits: what an eviction policy can use
///
/// No matrix of rows x keys exists: tiles of 64 tokens walk over blocks of 256 slots with a running maximum and sum, as
/// FlashAttention does. Where tokens are few, parts of the slots are shared among the threads and joined.
void attend(const float* queries, int tokens, int query_heads, const kv_memory& cache, int layer, float* out,
            float* log_sum_exp);
