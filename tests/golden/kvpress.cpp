// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include <capture_file.hpp>
#include <fstream>
#include <kvevict/policy/spec.hpp>
#include <nlohmann/json.hpp>
#include <string>

#include "../support/host.hpp"

using namespace kvevict;

namespace {

using rows = std::vector<std::vector<index_t>>;

/// All layers of the file as one call: [layers][heads][slots][dims].
struct tensors {
  std::vector<float> queries, keys, values;
  index_t layers = 0, query_heads = 0, kv_heads = 0, length = 0, dim = 0;

  explicit tensors(const capture_file& file) {
    for (const int layer : file.layers()) {
      const layer_capture l = file.load(layer);
      queries.insert(queries.end(), l.queries.begin(), l.queries.end());
      keys.insert(keys.end(), l.keys.begin(), l.keys.end());
      values.insert(values.end(), l.values.begin(), l.values.end());
      ++layers, query_heads = l.query_heads, kv_heads = l.kv_heads, length = l.length, dim = l.dim;
    }
  }
  [[nodiscard]] auto in() const {
    const strided order = hnd(1, kv_heads, length, dim);
    return inputs{cache{cache_shape{layers, 1, kv_heads}, length, entries{keys.data(), order, dim},
                        entries{values.data(), order, dim}},
                  query_view{entries{queries.data(), hnd(1, query_heads, length, dim), dim}, query_heads, length}};
  }
};

/// Whether two selections of a row differ only by slots whose scores are equal within rounding.
bool tied(const std::vector<float>& scores, const std::vector<index_t>& ours, const std::vector<index_t>& theirs) {
  if (ours.size() != theirs.size()) return false;
  std::vector<index_t> only_ours, only_theirs;
  std::set_difference(ours.begin(), ours.end(), theirs.begin(), theirs.end(), std::back_inserter(only_ours));
  std::set_difference(theirs.begin(), theirs.end(), ours.begin(), ours.end(), std::back_inserter(only_theirs));
  for (const index_t a : only_ours)
    for (const index_t b : only_theirs) {
      const float x = scores[std::size_t(a)], y = scores[std::size_t(b)];
      if (std::abs(x - y) > 4e-6F * std::max(std::abs(x), std::abs(y))) return false;
    }
  return true;
}

}  // namespace

TEST_CASE("the kept sets of kvpress 0.5.5") {
  const tensors data{capture_file(KVEVICT_GOLDEN "/kvpress_inputs.safetensors")};
  std::ifstream file(KVEVICT_GOLDEN "/kvpress_sets.json");
  const auto cases = nlohmann::json::parse(file);
  REQUIRE(cases.size() >= 34);
  int sets = 0, ties = 0;
  for (const auto& one : cases) {
    const auto spec = one["policy"].get<std::string>();
    CAPTURE(spec);
    const std::string problem = visit_policy(spec, slots(one["budget"].get<index_t>()), [&](const auto& policy) {
      host::kept got = host::evict(policy, data.in());
      REQUIRE(got.status.ok());
      const auto scores = host::score(policy, data.in());
      for (index_t r = 0; r < data.layers * data.kv_heads; ++r) {
        CAPTURE(r);
        const auto expected =
            one["kept"][std::size_t(r / data.kv_heads)][std::size_t(r % data.kv_heads)].get<std::vector<index_t>>();
        const auto ours = got.rows()[std::size_t(r)];
        ++sets;
        if (ours == expected) continue;
        ++ties;
        MESSAGE(spec << ", row " << r << ": other slots, with scores that tie within rounding");
        CHECK(tied(scores[std::size_t(r)], ours, expected));
      }
    });
    CHECK(problem == "");
  }
  MESSAGE(sets << " sets compared, " << ties << " differ by ties");
}
