// SPDX-License-Identifier: MIT
#pragma once

/// @file
/// The descriptions, in the order of the data flow; no loop over a cache, no backend.

#include <kvevict/version.hpp>

// view: how an engine's memory is seen
#include <kvevict/view/cache.hpp>
#include <kvevict/view/flat.hpp>
#include <kvevict/view/inputs.hpp>
#include <kvevict/view/paged.hpp>
#include <kvevict/view/ranks.hpp>
#include <kvevict/view/reordered.hpp>
#include <kvevict/view/strided.hpp>

// score: how much each slot matters
#include <kvevict/score/attention.hpp>
#include <kvevict/score/combine.hpp>
#include <kvevict/score/group.hpp>
#include <kvevict/score/keys.hpp>
#include <kvevict/score/pool.hpp>
#include <kvevict/score/position.hpp>
#include <kvevict/score/prior.hpp>

// budget: how many slots a row keeps
#include <kvevict/budget/adaptive.hpp>
#include <kvevict/budget/pyramid.hpp>
#include <kvevict/budget/rule.hpp>

// select: which slots stay
#include <kvevict/select/protect.hpp>
#include <kvevict/select/selection.hpp>
#include <kvevict/select/token_set.hpp>

// compact: what moves
#include <kvevict/compact/blocks.hpp>
#include <kvevict/compact/moves.hpp>
#include <kvevict/compact/rope.hpp>

// decode: what a policy remembers between evictions
#include <kvevict/decode/state.hpp>

// policy: compositions of the above
#include <kvevict/policy/accumulated_attention.hpp>
#include <kvevict/policy/adakv.hpp>
#include <kvevict/policy/ahakv.hpp>
#include <kvevict/policy/decayed_keydiff.hpp>
#include <kvevict/policy/full.hpp>
#include <kvevict/policy/h2o.hpp>
#include <kvevict/policy/keydiff.hpp>
#include <kvevict/policy/knorm.hpp>
#include <kvevict/policy/nacl.hpp>
#include <kvevict/policy/pyramidkv.hpp>
#include <kvevict/policy/random.hpp>
#include <kvevict/policy/snapkv.hpp>
#include <kvevict/policy/streaming_llm.hpp>
#include <kvevict/policy/tova.hpp>
