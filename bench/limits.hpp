// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <vector>

/// What this machine can do, measured in the run that is judged by it.
struct machine_limits {
  double gflops = 0;    ///< fp32 multiply-adds from registers, two operations each, 10^9 per second
  double copy_gbs = 0;  ///< memcpy between buffers that no cache holds, bytes read plus written, 10^9 per second
  double read_gbs = 0;  ///< reads of such a buffer, 10^9 bytes per second
};

/// Limits of `threads` threads; measured once per run and number of threads.
const machine_limits& limits(int threads);
