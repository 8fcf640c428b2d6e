// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <vector>

/// The host's side of the CUDA backend on devices that are pretended (runtime.cpp): what it launches, and that it asks
/// the runtime for nothing else. Whatever would allocate, wait or keep state does not link.
namespace launches {

struct device {
  const char* name;
  int code;         ///< what the kernels were compiled for: 80 for sm_80
  bool clusters;    ///< whether the device has them
  int most_shared;  ///< bytes of shared memory that a block can ask for
};

struct launch {
  unsigned blocks = 0, threads = 0, cluster = 1;
  std::size_t shared = 0;
  int on_device = 0;  ///< that was current
  std::string wrong;  ///< what the runtime would have refused it for, or nothing
};

/// The device from now on. Its number is 1, and that of the caller's current one 0.
void pretend(const device& d);
/// What has been launched since that was asked last.
[[nodiscard]] std::vector<launch> taken();
/// The number of the current device.
[[nodiscard]] int current();

/// A call of an entry point, all of whose memory is pretended as well.
struct call {
  const char* name;
  std::string (*run)();  ///< what its status says, or nothing
  int kernels;           ///< that it must launch, or 0 for any number
};
[[nodiscard]] std::vector<call> all_calls();

}  // namespace launches
