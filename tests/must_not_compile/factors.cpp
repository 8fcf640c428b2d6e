// SPDX-License-Identifier: MIT
// expect: reduce the group .* before combining scorers
#include <kvevict/cpu.hpp>

using namespace kvevict;

constexpr float* memory = nullptr;
[[maybe_unused]] const entries keys{memory, hnd(1, 1, 8, 4), 4};
#if defined(WRONG)
constexpr score::product scorer{score::observation_window(4), score::key_diff{}};
#else
constexpr score::product scorer{score::observation_window(4) | score::group_mean{}, score::key_diff{}};
#endif
static_assert(!scorer.per_query_head);
