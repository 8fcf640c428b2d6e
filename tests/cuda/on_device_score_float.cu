// SPDX-License-Identifier: MIT
// fp32: the kernels without tensor cores.
#include "on_device_score.cuh"

namespace on_device {

using namespace kvevict;

#define KVEVICT_INSTANCE(layout, given, ...)                                     \
  template evicted evict<given>(const __VA_ARGS__&, const host::content<float>&, \
                                const host::stored<float, layout, layout>&, const beside&, int)

KVEVICT_INSTANCE(strided, given::queries, snapkv<>);
KVEVICT_INSTANCE(strided, given::log_sum_exp, h2o);
KVEVICT_INSTANCE(strided, given::everything, ahakv<score::plain_gain>);
KVEVICT_INSTANCE(strided, given::everything, ahakv<>);
KVEVICT_INSTANCE(strided, given::everything, adakv<ahakv<>>);
KVEVICT_INSTANCE(flat, given::queries, snapkv<>);
KVEVICT_INSTANCE(paged, given::queries, ahakv<>);

}  // namespace on_device
