// SPDX-License-Identifier: MIT
#pragma once

/// @file
/// What a CUDA engine includes in its .cu files: every description (kvevict.hpp) and the CUDA backend.

#include <kvevict/cuda/backend.cuh>
#include <kvevict/cuda/blocks.cuh>
#include <kvevict/cuda/compact.cuh>
#include <kvevict/cuda/evict.cuh>
#include <kvevict/cuda/rotate.cuh>
#include <kvevict/cuda/select.cuh>
#include <kvevict/kvevict.hpp>
