// SPDX-License-Identifier: MIT
// Every policy on fp16: what the bundled capture holds.
#include "on_device_score.cuh"

namespace on_device {

using namespace kvevict;
using dense = host::stored<half, strided, strided>;

#define KVEVICT_INSTANCE(given, ...) \
  template evicted evict<given>(const __VA_ARGS__&, const host::content<half>&, const dense&, const beside&, int)

KVEVICT_INSTANCE(given::queries, full);
KVEVICT_INSTANCE(given::queries, kvevict::random);
KVEVICT_INSTANCE(given::queries, streaming_llm);
KVEVICT_INSTANCE(given::queries, knorm);
KVEVICT_INSTANCE(given::queries, keydiff);
KVEVICT_INSTANCE(given::queries, adakv<decayed_keydiff>);
KVEVICT_INSTANCE(given::queries, accumulated_attention);
KVEVICT_INSTANCE(given::queries, h2o);
KVEVICT_INSTANCE(given::queries, tova);
KVEVICT_INSTANCE(given::queries, snapkv<>);
KVEVICT_INSTANCE(given::queries, snapkv<score::avg_pool>);
KVEVICT_INSTANCE(given::queries, nacl);
KVEVICT_INSTANCE(given::queries, pyramidkv<>);
KVEVICT_INSTANCE(given::queries, ahakv<>);
KVEVICT_INSTANCE(given::queries, adakv<snapkv<>>);
KVEVICT_INSTANCE(given::queries, adakv<pyramidkv<>>);
KVEVICT_INSTANCE(given::queries, adakv<ahakv<>>);

}  // namespace on_device
