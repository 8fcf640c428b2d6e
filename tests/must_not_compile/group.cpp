// SPDX-License-Identifier: MIT
// expect: a group reduction needs scores per query_head
#include <kvevict/cpu.hpp>

using namespace kvevict;

constexpr float* memory = nullptr;
[[maybe_unused]] const entries keys{memory, hnd(1, 1, 8, 4), 4};
#if defined(WRONG)
constexpr auto scorer = score::observation_window(4) | score::group_mean{} | score::group_max{};
#else
constexpr auto scorer = score::observation_window(4) | score::group_mean{};
#endif
static_assert(!scorer.per_query_head);
