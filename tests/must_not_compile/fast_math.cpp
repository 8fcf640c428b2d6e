// SPDX-License-Identifier: MIT
// expect: -ffast-math makes scores wrong
#if defined(WRONG)
#define __FAST_MATH__ 1  // as the compiler does with that flag
#endif
#include <kvevict/cpu.hpp>

int main() {}
