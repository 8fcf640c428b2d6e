// SPDX-License-Identifier: MIT
// 7. Compaction, positions and RoPE. A slot is where an entry lies, a position is where its token stood. Compaction
// changes slots; keys carry their positions inside, turned by RoPE, so a moved key stays right if positions move along
// beside it. An engine that renumbers positions turns the keys too: then a gap closes, and distances change.
// Equation: <R_m q, R_n k> = q' R_(n-m) k, RoFormer (arXiv 2104.09864) eq. 16: a logit depends on m - n alone.
// Headers: kvevict/compact/moves.hpp, kvevict/compact/rope.hpp. Tests: tests/compact/swap_fill.cpp, rotate.cpp.
#include <cmath>
#include <cstdio>
#include <numeric>

#include "course.hpp"

using namespace kvevict;

/// Twelve slots whose key is the number of their letter; seven stay.
void two_ways_to_move() {
  std::vector<float> letters(12);
  std::iota(letters.begin(), letters.end(), 0.0F);
  std::vector<float> swapped = letters;
  std::vector<index_t> positions(letters.begin(), letters.end()), order = positions;
  evicted kept(7, 1);
  kept.slots = {0, 1, 5, 6, 9, 10, 11};
  kept.offsets = {0, 7};
  const strided each{.slot = 1};
  const auto row_of = [&](std::vector<float>& memory) {
    return key_cache{cache_shape{1, 1, 1}, index_t{12}, entries{memory.data(), each, 1}};
  };
  const auto show = [](const char* name, const auto& from, index_t count, char zero) {
    std::printf("%-17s", name);
    for (index_t i = 0; i < count; ++i)
      zero == 'a' ? std::printf("  %c", zero + char(from[i])) : std::printf("%3d", int(from[i]));
    std::printf("\n");
  };
  show("before", letters.data(), 12, 'a');
  require(compact_in_place(cpu{}, row_of(letters), kept.view(), side(positions.data(), each)));
  require(swap_fill(cpu{}, row_of(swapped), token_order{order.data(), each}, kept.view()));
  show("compact_in_place", letters.data(), 7, 'a');
  show("  positions", positions.data(), 7, '0');
  show("swap_fill", swapped.data(), 7, 'a');
  show("  token order", order.data(), 7, '0');
}

float logit(const std::vector<float>& query, const float* key) {
  return std::inner_product(query.begin(), query.end(), key, 0.0F) / std::sqrt(float(query.size()));
}

int main() {
  two_ways_to_move();

  // StreamingLLM keeps 4 sinks and 60 recent slots of a real head; then the engine renumbers positions 0 .. 63.
  layer_capture c = capture_file(KVEVICT_CAPTURE).load(10);
  const index_t dims = c.dim, last = c.length - 1;
  std::vector<double> frequencies;
  for (index_t i = 0; i < dims / 2; ++i) frequencies.push_back(std::pow(100000.0, -2.0 * i / dims));
  const rope embedding{frequencies.data(), dims};
  evicted kept = keep(streaming_llm{.budget = slots(64)}, inputs{cache_of(c, c.length)});
  const key_cache held{cache_shape{1, 1, 1}, index_t{64}, entries{c.keys.data(), hnd(1, 1, 64, dims), dims}};
  for (index_t i = 0; i < 64; ++i)
    std::copy_n(c.keys.data() + kept.slots[std::size_t(i)] * dims, dims, c.keys.data() + i * dims);
  std::vector<float> query(c.queries.data() + last * dims, c.queries.data() + (last + 1) * dims), before;
  for (index_t i = 0; i < 64; ++i) before.push_back(logit(query, c.keys.data() + i * dims));

  std::vector<index_t> closed(64);
  std::iota(closed.begin(), closed.end(), 0);
  const position_view written{kept.slots.data(), strided{.slot = 1}}, dense{closed.data(), strided{.slot = 1}};
  require(rotate_keys(cpu{}, held, embedding, written, dense));
  const key_cache asking{cache_shape{1, 1, 1}, index_t{1}, entries{query.data(), hnd(1, 1, 1, dims), dims}};
  require(rotate_keys(cpu{}, asking, embedding, {&last}, {&closed.back()}));

  std::printf("\nposition  distance  logit   renumbered  distance  logit\n");
  for (const std::size_t i : {0U, 1U, 2U, 3U, 4U, 24U, 44U, 62U})
    std::printf("%8d  %8d  %5.1f   %10d  %8d  %5.1f\n", kept.slots[i], last - kept.slots[i], before[i], closed[i],
                closed.back() - closed[i], logit(query, c.keys.data() + index_t(i) * dims));
}
