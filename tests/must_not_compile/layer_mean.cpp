// SPDX-License-Identifier: MIT
// expect: must be the last stage of a scorer
#include <kvevict/cpu.hpp>

using namespace kvevict;

constexpr float* memory = nullptr;
[[maybe_unused]] const entries keys{memory, hnd(1, 1, 8, 4), 4};
#if defined(WRONG)
constexpr auto scorer = score::observation_window(1) | score::group_mean{} | score::layer_mean{} | score::avg_pool{};
#else
constexpr auto scorer = score::observation_window(1) | score::group_mean{} | score::avg_pool{} | score::layer_mean{};
#endif
static_assert(!scorer.per_query_head);
