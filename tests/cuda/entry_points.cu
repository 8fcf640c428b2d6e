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
template status kvevict::score_rows(const gpu&, const ahakv<score::plain_gain>&,
                                    const inputs<paged_cache<bfloat16>, asked<bfloat16>, log_sum_exp_view>&,
                                    const ragged<float>&, const workspace&);
template status kvevict::evict(const gpu&, const h2o&, const inputs<held<float>, asked<float>, position_view>&,
                               const selection&, const workspace&);
template status kvevict::evict(const gpu&, const tova&, const inputs<held<float>, asked<float>>&, const selection&,
                               const workspace&);
template status kvevict::evict(const gpu&, const nacl&, const inputs<held<float>, asked<float>>&, const selection&,
                               const workspace&);
template status kvevict::evict(const gpu&, const keydiff&, const inputs<held<bfloat16>>&, const selection&,
                               const workspace&);
template status kvevict::evict(const gpu&, const adakv<decayed_keydiff>&,
                               const inputs<held<bfloat16>, asked<bfloat16>>&, const selection&, const workspace&);
template status kvevict::evict(const gpu&, const knorm&, const inputs<held<bfloat16>>&, const selection&,
                               const workspace&);
template status kvevict::evict(const gpu&, const streaming_llm&, const inputs<held<bfloat16>>&, const selection&,
                               const workspace&);

/// Stands for an all-reduce; kvevict/nccl.cuh is compiled apart, where NCCL is found.
struct no_sum {
  bool operator()(cudaStream_t, const span<std::int64_t>&) const { return true; }
};
template status kvevict::evict(const gpu&, const adakv<knorm>&, const inputs<held<bfloat16>, rank_view<no_sum>>&,
                               const selection&, const workspace&);

template status kvevict::score_rows(const gpu&, const snapkv<>&, const inputs<held<float>, asked<float>>&,
                                    const ragged<float>&, const workspace&);

using room = cache<entries<bfloat16, strided>, entries<bfloat16, strided>>;
using pages = cache<entries<bfloat16, paged>, entries<bfloat16, paged>>;

template status kvevict::gather(const gpu&, const room&, const selection&, const pages&, const side_array<index_t>&);
template status kvevict::compact_in_place(const gpu&, const room&, const selection&, const side_array<index_t>&);
template status kvevict::swap_fill(const gpu&, const pages&, const token_order&, const selection&, const workspace&,
                                   const side_array<float>&);

using given = attention_view<entries<const float, strided>>;

template status kvevict::score_rows(const gpu&, const snapkv<>&, const inputs<held<bfloat16>, given>&,
                                    const ragged<float>&, const workspace&);

using fed_queries = device_states<>;
using fed_attention = device_states<row_feed::attention>;

template status kvevict::start(const gpu&, const h2o&, const sequence_extent&, const decode_state<>&);
template status kvevict::append(const gpu&, const room&, const pages&, const span<index_t>&);
template status kvevict::observe(const gpu&, const h2o&, const fed_queries&, const inputs<pages, asked<bfloat16>>&,
                                 const workspace&);
template status kvevict::observe(const gpu&, const h2o&, const fed_attention&, const inputs<room, given>&,
                                 const workspace&);
template status kvevict::observe(const gpu&, const ahakv<score::step_gain, every_row>&, const fed_queries&,
                                 const inputs<room, asked<bfloat16>>&, const workspace&);
template status kvevict::observe(const gpu&, const snapkv<>&, const fed_queries&, const inputs<room, asked<bfloat16>>&,
                                 const workspace&);
template status kvevict::observe(const gpu&, const knorm&, const fed_queries&, const inputs<room>&, const workspace&);
template status kvevict::evict(const gpu&, const snapkv<>&, const fed_queries&, const inputs<room>&, const selection&,
                               const workspace&);
template status kvevict::evict(const gpu&, const h2o&, const fed_attention&, const inputs<room>&, const selection&,
                               const workspace&);
template status kvevict::step(const gpu&, const h2o&, const fed_attention&, const inputs<room, given>&,
                              const span<index_t>&, const workspace&, const eviction_pace&);
template status kvevict::step(const gpu&, const snapkv<>&, const fed_queries&, const inputs<room, asked<bfloat16>>&,
                              const span<index_t>&, const workspace&, const eviction_pace&);
template status kvevict::step(const gpu&, const adakv<ahakv<>>&, const fed_queries&,
                              const inputs<pages, asked<bfloat16>, value_norm_view>&, const span<index_t>&,
                              const workspace&, const eviction_pace&);
template status kvevict::evict_in_place(const gpu&, const snapkv<>&, const fed_queries&, const inputs<pages>&,
                                        const span<index_t>&, const workspace&, const eviction_pace&);
template status kvevict::evict_in_place(const gpu&, const tova&, const fed_queries&, const inputs<room>&,
                                        const span<index_t>&, const workspace&, const eviction_pace&);
template status kvevict::evict_in_place(const gpu&, const streaming_llm&, const fed_queries&, const inputs<room>&,
                                        const span<index_t>&, const workspace&, const eviction_pace&);
template status kvevict::evict_in_place(const gpu&, const keydiff&, const fed_queries&, const inputs<pages>&,
                                        const span<index_t>&, const workspace&, const eviction_pace&);
using ordered = cache<entries<bfloat16, reordered<strided>>, entries<bfloat16, reordered<strided>>>;
template status kvevict::evict_in_place(const gpu&, const h2o&, const fed_attention&, const inputs<ordered>&,
                                        const span<index_t>&, const workspace&, const eviction_pace&);
template status kvevict::compact_in_place(const gpu&, const room&, const selection&,
                                          const detail::moved_states<row_feed::attention>&);
template status kvevict::swap_fill(const gpu&, const pages&, const token_order&, const selection&, const workspace&,
                                   const detail::moved_states<row_feed::queries>&);
template status kvevict::gather(const gpu&, const room&, const selection&, const pages&, const turned_keys&);
template status kvevict::compact_in_place(const gpu&, const room&, const selection&, const turned_keys&);
template status kvevict::swap_fill(const gpu&, const pages&, const token_order&, const selection&, const workspace&,
                                   const turned_keys&);
template status kvevict::rotate_keys(const gpu&, const pages&, const rope&, const position_view&, const position_view&);
template status kvevict::rotate_keys(const gpu&, const cache<entries<float, strided>, entries<float, strided>>&,
                                     const rope&, const position_view&, const position_view&);
// free_blocks is no template: including it compiles it.
