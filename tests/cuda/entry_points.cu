// SPDX-License-Identifier: MIT
// What the compile gate compiles: every entry point of the CUDA backend, for the policies that differ in their kernels.
#include <kvevict/cuda/select.cuh>
#include <kvevict/kvevict.hpp>

using namespace kvevict;

template status kvevict::select(const gpu&, const snapkv<>&, const row_scores&, const selection&, const workspace&);
template status kvevict::select(const gpu&, const pyramidkv<>&, const row_scores&, const selection&, const workspace&);
template status kvevict::select(const gpu&, const adakv<snapkv<>>&, const row_scores&, const selection&,
                                const workspace&);
template status kvevict::select(const gpu&, const adakv<pyramidkv<>>&, const row_scores&, const selection&,
                                const workspace&);
