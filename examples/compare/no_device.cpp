// SPDX-License-Identifier: MIT
#include <stdexcept>

#include "device.hpp"

std::string device_problem() {
  return "this compare was built without CUDA; install the CUDA toolkit, 13.0 or later, so that nvcc is on the path, "
         "and build it again with -DKVEVICT_CUDA=ON (./dev compare does), or leave --backend out";
}

device_run run_on_device(const layer_capture&, const task&, const std::string&, kvevict::amount) {
  throw std::runtime_error(device_problem());
}
