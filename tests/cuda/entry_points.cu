// SPDX-License-Identifier: MIT
// What the compile gate compiles: every entry point of the CUDA backend, for the policies that differ in their kernels.
#include <kvevict/cuda.cuh>

using namespace kvevict;

template status kvevict::select(const gpu&, const snapkv<>&, const row_scores&, const selection&, const workspace&);
template status kvevict::select(const gpu&, const pyramidkv<>&, const row_scores&, const selection&, const workspace&);
template status kvevict::select(const gpu&, const adakv<snapkv<>>&, const row_scores&, const selection&,
                                const workspace&);
template status kvevict::select(const gpu&, const adakv<pyramidkv<>>&, const row_scores&, const selection&,
                                const workspace&);

template <class Element>
using held = cache<entries<const Element, strided>, entries<const Element, strided>>;
template <class Element>
using asked = query_view<entries<const Element, strided>>;
template <class Element>
using paged_cache = cache<entries<const Element, paged>, entries<const Element, paged>>;

template status kvevict::evict(const gpu&, const snapkv<>&, const inputs<held<bfloat16>, asked<bfloat16>>&,
                               const selection&, const workspace&);
template status kvevict::evict(const gpu&, const adakv<ahakv<>>&, const inputs<held<half>, asked<half>>&,
                               const selection&, const workspace&);
template status kvevict::evict(const gpu&, const snapkv<>&,
                               const inputs<paged_cache<bfloat16>, asked<bfloat16>, log_sum_exp_view>&,
                               const selection&, const workspace&);
template status kvevict::evict(const gpu&, const h2o&, const inputs<held<float>, asked<float>, position_view>&,
                               const selection&, const workspace&);
template status kvevict::evict(const gpu&, const tova&, const inputs<held<float>, asked<float>>&, const selection&,
                               const workspace&);
template status kvevict::evict(const gpu&, const nacl&, const inputs<held<float>, asked<float>>&, const selection&,
                               const workspace&);
template status kvevict::evict(const gpu&, const keydiff&, const inputs<held<bfloat16>>&, const selection&,
                               const workspace&);
template status kvevict::evict(const gpu&, const knorm&, const inputs<held<bfloat16>>&, const selection&,
                               const workspace&);
template status kvevict::evict(const gpu&, const streaming_llm&, const inputs<held<bfloat16>>&, const selection&,
                               const workspace&);
template status kvevict::score_rows(const gpu&, const snapkv<>&, const inputs<held<float>, asked<float>>&,
                                    const ragged<float>&, const workspace&);

using room = cache<entries<bfloat16, strided>, entries<bfloat16, strided>>;
using pages = cache<entries<bfloat16, paged>, entries<bfloat16, paged>>;

template status kvevict::gather(const gpu&, const room&, const selection&, const pages&, const side_array<index_t>&);
template status kvevict::compact_in_place(const gpu&, const room&, const selection&, const side_array<index_t>&);
template status kvevict::swap_fill(const gpu&, const pages&, const token_order&, const selection&, const workspace&,
                                   const side_array<float>&);
template status kvevict::gather(const gpu&, const room&, const selection&, const pages&, const turned_keys&);
template status kvevict::compact_in_place(const gpu&, const room&, const selection&, const turned_keys&);
template status kvevict::swap_fill(const gpu&, const pages&, const token_order&, const selection&, const workspace&,
                                   const turned_keys&);
template status kvevict::rotate_keys(const gpu&, const pages&, const rope&, const position_view&, const position_view&);
template status kvevict::rotate_keys(const gpu&, const cache<entries<float, strided>, entries<float, strided>>&,
                                     const rope&, const position_view&, const position_view&);
// free_blocks is no template: including it compiles it.
