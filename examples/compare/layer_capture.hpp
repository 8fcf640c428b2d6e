// SPDX-License-Identifier: MIT
#pragma once

#include <vector>

/// What a policy and its judge need of one layer of a model, as floats (fp16 becomes fp32 without loss).
struct layer_capture {
  int layer = 0;
  int query_heads = 0, kv_heads = 0;
  int rows = 0;    ///< query rows: the last `rows` positions
  int length = 0;  ///< slots
  int dim = 0, value_dim = 0;
  int element_bytes = 0;       ///< of keys and values in the file
  std::vector<float> queries;  ///< [query_heads][rows][dim], post-RoPE
  std::vector<float> keys;     ///< [kv_heads][length][dim], post-RoPE
  std::vector<float> values;   ///< [kv_heads][length][value_dim]
};
