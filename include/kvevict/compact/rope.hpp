// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/core/status.hpp>
#include <kvevict/core/types.hpp>

namespace kvevict {

/// Which two dims of a key form the pair that angle i turns.
enum class rope_pairs {
  half_split,  ///< (i, i + rotary_dims / 2): Llama and most models in transformers
  interleaved  ///< (2 i, 2 i + 1): GPT-J, llama.cpp's files
};

/// The rotary embedding that a model's keys carry: pair i at position p is turned by p * frequencies[i].
///
/// The table is the model's, so every scaling of it works (linear, NTK, YaRN, llama3); a common factor on the cosines,
/// as YaRN has, stays in the keys. Dims from rotary_dims on carry no position and are left alone.
struct rope {
  const double* frequencies = nullptr;  ///< [rotary_dims / 2], radians per position; plain RoPE: theta^(-2 i / dims)
  index_t rotary_dims = 0;              ///< even, at most the dims of a key
  rope_pairs pairs = rope_pairs::half_split;

  [[nodiscard]] constexpr status check(index_t dims) const {
    if (frequencies == nullptr) return {status_code::bad_pointer, "frequencies", "the frequencies are null"};
    if (rotary_dims < 2 || rotary_dims % 2 != 0 || rotary_dims > dims)
      return {status_code::bad_shape, "rotary_dims", "rotary_dims must be even, at least 2 and at most the dims"};
    return {};
  }
};

}  // namespace kvevict
