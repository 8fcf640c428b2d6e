// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <set>

#include "../../examples/compare/capture_file.hpp"
#include "on_device_expected.hpp"
#include "on_device_reference.hpp"

using namespace kvevict;
using namespace on_device;

namespace {

/// All layers of a capture as one cache, in fp16, which is what the file holds.
host::content<half> content_of(const capture_file& file) {
  const layer_capture first = file.load(file.layers().front());
  const cache_shape shape{.layers = index_t(file.layers().size()), .seqs = 1, .kv_heads = first.kv_heads};
  host::content<half> c(shape, {first.length}, first.dim, first.value_dim, first.query_heads / first.kv_heads);
  const auto copy = [](const float* from, std::size_t count, half* to) {
    std::transform(from, from + count, to, to_half);
  };
  for (index_t layer = 0; layer < shape.layers; ++layer) {
    const layer_capture l = file.load(file.layers()[std::size_t(layer)]);
    if (l.length != first.length || l.rows != l.length || l.query_heads != first.query_heads || l.dim != first.dim)
      throw std::runtime_error("the layers of the capture differ, or lack queries");
    for (index_t h = 0; h < shape.kv_heads; ++h) {
      const auto row = std::size_t(layer * shape.kv_heads + h);
      copy(l.keys.data() + std::size_t(h) * c.keys[row].size(), c.keys[row].size(), c.keys[row].data());
      copy(l.values.data() + std::size_t(h) * c.values[row].size(), c.values[row].size(), c.values[row].data());
    }
    copy(l.queries.data(), l.queries.size(), c.queries.data() + std::size_t(layer) * l.queries.size());
  }
  return c;
}

/// Where the device keeps other slots than the CPU does, their scores tie within the bound; a joint budget that such a
/// tie moves gives a row one slot more or less.
template <class Policy>
void check_kept(const Policy&, const host::content<half>& c, const evicted& got,
                const std::vector<std::vector<float>>& scores, const host::kept& expected) {
  constexpr bool joint = decltype(Policy{}.rule())::joint;
  for (std::size_t r = 0; r < scores.size(); ++r) {
    const auto set_of = [&](const auto& slots, const auto& offsets) {
      return std::set<index_t>(slots.begin() + offsets[r], slots.begin() + offsets[r + 1]);
    };
    const auto a = set_of(got.slots, got.offsets), b = set_of(expected.slots, expected.offsets);
    std::vector<index_t> differ;
    std::set_symmetric_difference(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(differ));
    if (differ.empty()) continue;
    double largest = 0, gap = 0;
    for (const float x : scores[r]) largest = std::max(largest, std::abs(double(x)));
    const double threshold = double(expected.receipts[r].threshold);
    int apart = 0;
    for (const index_t slot : differ) {
      const double from_cut = std::abs(double(scores[r][std::size_t(slot)]) - threshold);
      apart += from_cut > 2 * bound_of_cpu * largest;
      gap = std::max(gap, from_cut / largest);
    }
    const row_id row = c.shape.row(index_t(r));
    std::printf("%s: layer %d, kv_head %d: %zu slots differ from the CPU's, scores up to %.1e of the largest apart\n",
                Policy::name, row.layer, row.kv_head, differ.size(), gap);
    REQUIRE(apart <= (joint ? 1 : flips_of<Policy>));
  }
}

}  // namespace

TEST_CASE("on the device: the kept sets of every policy on a real capture are the CPU's") {
  const char* const path = std::getenv("KVEVICT_CAPTURE");
  const auto c = content_of(capture_file(path != nullptr ? path : KVEVICT_CAPTURE));
  const beside extra = beside_of(c, 1);
  const auto stored = host::in_strides(c, "hnd", hnd);
  std::vector<offset_t> offsets{0};
  for (const index_t n : c.lengths) offsets.push_back(offsets.back() + n);
  each_policy(percent(25), [&]<class Policy>(const Policy& policy) {
    CAPTURE(std::string(Policy::name));
    const evicted got = evict<given::queries>(policy, c, stored, extra, light() ? 1 : 3);
    REQUIRE(got.wrong == "");
    const auto scores = scores_on_host<given::queries>(policy, as_floats(c), extra);
    check_near(got.scores, scores, bound_of_cpu, flips_of<Policy>);
    check_selection(policy, c.shape, c.lengths, got, offset_t(sizeof(half)) * (c.dim + c.value_dim));
    std::vector<float> flat;
    for (const auto& row : scores) flat.insert(flat.end(), row.begin(), row.end());
    check_kept(policy, c, got, scores,
               selected_on_host(policy, {c.shape, {flat.data(), offsets.data(), index_t(c.shape.rows())}}));
  });
}
