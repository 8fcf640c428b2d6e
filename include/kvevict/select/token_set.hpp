// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/core/status.hpp>
#include <kvevict/select/selection.hpp>

namespace kvevict {

/// One set of tokens for several rows, for engines that cannot hold different tokens per head (TensorRT-LLM: one set
/// per layer; llama.cpp: one for all layers).
///
///     union_of   every slot that any of the rows retains; more slots than a row's budget
///     vote       as many slots as the rows retain on average (rounded down): those that most rows retain, equal
///                votes to the smaller slot. Slots that all rows protect have all votes.
///
/// The rows that share must have equal lengths and the same token in the same slot.
enum class token_set { union_of, vote };

/// Which rows share: the kv_heads of a layer, or all layers and kv_heads of a sequence.
enum class set_scope { layer, sequence };

}  // namespace kvevict
