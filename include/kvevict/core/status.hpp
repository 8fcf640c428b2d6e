// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/core/types.hpp>

namespace kvevict {

/// What kind of mistake a call found. Nothing of the caller's was changed unless the value is `ok`.
enum class status_code {
  ok,
  bad_shape,        ///< an extent is zero, negative or too large, or two inputs disagree
  bad_pointer,      ///< a pointer that is needed is null, or memory that a call compares overlaps
  bad_option,       ///< an option of the policy is outside its range
  bad_budget,       ///< the budget is zero, negative or smaller than the protected slots
  bad_input,        ///< an input lacks rows that the policy needs, or is none: positions that do not ascend, an order
                    ///< that is no permutation, bytes that are no state, an all-reduce that failed
  small_output,     ///< an output or a state has less room than the result needs, or is not aligned
  small_workspace,  ///< the workspace is too small or not aligned
  device_error      ///< the device refused a launch; the sentence is its own
};

/// The result of an entry point: a code, the argument that is at fault, and a sentence about it.
///
/// All text is static, so a status can be returned from anywhere, copied and stored. `needed` is the number of bytes or
/// elements that would have sufficed for an output or a workspace, of slots for a budget; 0 where there is no such
/// number.
struct [[nodiscard]] status {
  status_code code = status_code::ok;
  const char* argument = "";
  const char* sentence = "ok";
  offset_t needed = 0;

  [[nodiscard]] constexpr bool ok() const { return code == status_code::ok; }
};

}  // namespace kvevict
