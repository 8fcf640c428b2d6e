// SPDX-License-Identifier: MIT
#include <kvevict/kvevict.hpp>

int main() {
  const kvevict::knorm policy{.budget = kvevict::percent(50)};
  return policy.budget.of(4) == 2 ? 0 : 1;
}
