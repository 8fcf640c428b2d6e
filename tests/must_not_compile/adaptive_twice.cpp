// SPDX-License-Identifier: MIT
// expect: needs a base rule that is not adaptive itself
#include <kvevict/cpu.hpp>

using namespace kvevict;

constexpr float* memory = nullptr;
[[maybe_unused]] const entries keys{memory, hnd(1, 1, 8, 4), 4};
#if defined(WRONG)
constexpr budget::adaptive rule{adakv{knorm{}}.rule(), 0.5};
#else
constexpr budget::adaptive rule{knorm{}.rule(), 0.5};
#endif
static_assert(rule.joint);
