// SPDX-License-Identifier: MIT
// bf16 in every layout, with and without a log-sum-exp and all else that can be passed.
#include "on_device_score.cuh"

namespace on_device {

using namespace kvevict;

#define KVEVICT_INSTANCE(layout, given, ...)                                        \
  template evicted evict<given>(const __VA_ARGS__&, const host::content<bfloat16>&, \
                                const host::stored<bfloat16, layout, layout>&, const beside&, int)

KVEVICT_INSTANCE(strided, given::queries, snapkv<>);
KVEVICT_INSTANCE(strided, given::log_sum_exp, snapkv<>);
KVEVICT_INSTANCE(strided, given::log_sum_exp, h2o);
KVEVICT_INSTANCE(strided, given::everything, ahakv<score::plain_gain>);
KVEVICT_INSTANCE(flat, given::log_sum_exp, snapkv<>);
KVEVICT_INSTANCE(flat, given::log_sum_exp, keydiff);
KVEVICT_INSTANCE(paged, given::queries, snapkv<>);
KVEVICT_INSTANCE(paged, given::log_sum_exp, snapkv<>);
KVEVICT_INSTANCE(paged, given::log_sum_exp, ahakv<score::plain_gain>);

}  // namespace on_device
