// SPDX-License-Identifier: MIT
// 2. Why accumulated attention favours early tokens. A causal model lets token j be seen by the rows i >= j alone, so
// the sum of all rows has fewer terms the later j is. If the keys are alike by chance, the sum still falls with j:
//     E[S_j] = 1/j + 1/(j+1) + ... + 1/n = H_n - H_(j-1)
// and with the last r rows alone, nearly, r / n for all j that they all see.
// Equation: E[S_(j+1) - S_j] = -E[a_jj] < 0, AhaKV (arXiv 2506.03762), on accumulated scores; its remedy is the sum of
// the last r rows. Header: kvevict/score/attention.hpp. Test: tests/policy/theorems.cpp, the first two.
#include "course.hpp"

using namespace kvevict;

/// The mean over all rows of a batch, by slot.
template <class Scorer, class Inputs>
std::vector<double> mean_scores(const Scorer& scorer, const Inputs& in) {
  const auto rows = scores_of(composed{scorer | score::group_mean{}, budget::uniform{slots(8)}}, in);
  std::vector<double> mean(rows[0].size(), 0.0);
  for (const auto& row : rows)
    for (std::size_t j = 0; j < mean.size(); ++j) mean[j] += double(row[j]) / double(rows.size());
  return mean;
}

void simulate() {  // 4000 sequences of 64 random keys and queries, none of which means anything
  constexpr index_t n = 64, dims = 16, sequences = 4000;
  const auto keys = normals(sequences * n * dims, 1), queries = normals(keys.size(), 2);
  const strided each = hnd(sequences, 1, n, dims);
  const key_cache view{cache_shape{1, sequences, 1}, n, entries{keys.data(), each, dims}};
  const inputs in{view, query_view{entries{queries.data(), each, dims}, 1, n}};
  const auto all = mean_scores(score::accumulated_attention(), in);
  const auto last = mean_scores(score::attention<>{.window = 8}, in);
  std::printf("random keys, %d of them: the mean score of token j\n", n);
  std::printf("token j   H_n - H_(j-1)   sum of all rows   sum of the last 8\n");
  for (index_t j = 1; j <= n; j = j < 4 ? j + 1 : j < 56 ? j + 4 : j + 8) {
    double harmonic = 0;
    for (index_t i = j; i <= n; ++i) harmonic += 1.0 / i;
    std::printf("%7d %15.2f %17.2f %19.2f\n", j, harmonic, all[std::size_t(j - 1)], last[std::size_t(j - 1)]);
  }
}

/// Where the slots lie that a scorer keeps, in fifths of the text.
template <class Scorer>
void kept_by_fifth(const char* name, const Scorer& scorer, const capture_file& file) {
  index_t in_fifth[5] = {}, all = 0;
  for (const int layer : file.layers()) {
    layer_capture c = file.load(layer);
    const inputs in{cache_of(c, c.length), queries_of(c, 0, c.rows)};
    const evicted kept = keep(composed{scorer | score::group_mean{}, budget::uniform{percent(20)}}, in);
    for (const index_t slot : kept.slots) ++in_fifth[slot * 5 / c.length];
    all += index_t(kept.slots.size());
  }
  std::printf("%-28s", name);
  for (const index_t count : in_fifth) std::printf("  %5.0f%%", 100.0 * count / all);
  std::printf("\n");
}

int main() {
  simulate();
  const capture_file file(KVEVICT_CAPTURE);
  std::printf("\nSmolLM2-135M, 1500 tokens, a fifth of them kept by score alone: where they lie\n");
  std::printf("fifth of the text              first  second   third  fourth    last\n");
  kept_by_fifth("sum of all rows", score::accumulated_attention(), file);
  kept_by_fifth("mean of the rows that see j", score::accumulated_attention(score::row_mean::visible), file);
  kept_by_fifth("sum of the last 32 rows", score::attention<>{.window = 32}, file);
}
