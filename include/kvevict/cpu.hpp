// SPDX-License-Identifier: MIT
#pragma once

/// @file
/// What a CPU engine includes: every description (kvevict.hpp) and the CPU backend. OpenMP threads are one more
/// include, <kvevict/cpu/openmp.hpp>.

#include <kvevict/cpu/backend.hpp>
#include <kvevict/cpu/compact/gather.hpp>
#include <kvevict/cpu/compact/in_place.hpp>
#include <kvevict/cpu/compact/rotate.hpp>
#include <kvevict/cpu/compact/swap_fill.hpp>
#include <kvevict/cpu/decode/append.hpp>
#include <kvevict/cpu/decode/evict.hpp>
#include <kvevict/cpu/decode/observe.hpp>
#include <kvevict/cpu/decode/side.hpp>
#include <kvevict/cpu/evict.hpp>
#include <kvevict/cpu/select/one_set.hpp>
#include <kvevict/kvevict.hpp>
