// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <kvevict/cpu/detail/attention_operands.hpp>
#include <limits>

/// Column sums of attention for a chunk of query rows of one kv_head: memory O(keys) times the chunk, never rows x
/// keys of the prompt.
///
/// The weight of a row is known only after its last key, so each block of keys stores 2^(s - m), m the maximum of
/// the row in that block, and a second, cheap pass rescales and sums. With the engine's log-sum-exp the weights are
/// known at once and nothing is stored.
namespace kvevict::detail {

/// Logits of one block of `count` keys, and, where `peak` is given, the maximum of each row over them. `ahead(j)` is
/// called beside the tiles of key j.
template <class Steps, class Ahead>
void multiply_block(const typename Steps::element* const* keys, index_t count, index_t dims, index_t rows,
                    const column_scratch& b, float* peak, const Ahead& ahead) {
  if (peak != nullptr)
    for (index_t r = 0; r < rows; ++r) peak[r] = -std::numeric_limits<float>::max();
  const index_t tiles = (count + tile_keys - 1) / tile_keys, steps = dims / Steps::dims;
  for (index_t d = 0; d < steps; d += step_chunk)
    for (index_t r = 0; r < rows; r += tile_rows) {
      const index_t width = least(tile_rows, rows - r), some = least(step_chunk, steps - d);
      const auto* queries = reinterpret_cast<const typename Steps::lane*>(b.queries) +
                            static_cast<offset_t>(r) * steps + static_cast<offset_t>(d) * width;
      const bool complete = d + some == steps;
      const float* scale = complete ? b.scale + r : nullptr;
      float* tops = complete && peak != nullptr ? peak + r : nullptr;
      for (index_t j = 0; j < tiles * tile_keys; j += tile_keys) {
        if (r == 0 && d == 0) ahead(j);
        multiply_tile_of<Steps>(width / packet_size, queries, keys + j, d, some, d > 0, scale, tops,
                                b.logits + static_cast<offset_t>(j) * rows + r, offset_t{rows});
      }
    }
}

/// Replaces what a row does not see in a block; only the blocks at the diagonal have such entries.
inline void mask_block(float* values, index_t slot, index_t count, index_t rows, const index_t* visible,
                       float replacement) {
  for (index_t j = 0; j < count; ++j)
    for (index_t r = 0; r < rows; ++r)
      if (slot + j >= visible[r]) values[static_cast<offset_t>(j) * rows + r] = replacement;
}

/// to[j][r] = 2^(from[j][r] - shift[r]); mass[r] = their sum over j, where `mass` is given.
[[gnu::noinline]] inline void exponentials(const float* from, const float* shift, index_t count, index_t rows,
                                           float* to, float* mass) {
  for (index_t r = 0; r < rows; r += packet_size) {
    const packet below = load(shift + r);
    packet total = broadcast(0.0F);
    for (offset_t j = 0; j < count; ++j) {
      const packet e = exp2(subtract(load(from + j * rows + r), below));
      store(to + j * rows + r, e);
      total = add(total, e);
    }
    if (mass != nullptr) store(mass + r, total);
  }
}

/// columns[head][slot + j] += sum over the rows r of that head of factor[r] * values[j][r]
[[gnu::noinline]] inline void add_block(const float* values, const float* factor, index_t count, index_t rows,
                                        const row_chunk& chunk, float* columns, offset_t column_stride) {
  const index_t per_head = chunk.per_head();
  const bool whole = per_head % packet_size == 0;
  const auto part_of = [&](const float* v, const float* f) {
    packet part = multiply(load(v), load(f));
    for (index_t r = packet_size; r < per_head; r += packet_size) part = multiply_add(load(v + r), load(f + r), part);
    return part;
  };
  index_t first = 0;
  for (; whole && first + packet_size <= count; first += packet_size)  // as many keys as a packet has sums
    for (index_t h = 0; h < chunk.heads; ++h) {
      packet parts[packet_size];
      for (offset_t j = 0; j < packet_size; ++j)
        parts[j] = part_of(values + (first + j) * rows + h * per_head, factor + h * per_head);
      float* to = columns + h * column_stride + first;
      store(to, add(load(to), sums_of(parts)));
    }
  for (offset_t j = first; j < count; ++j)
    for (index_t h = 0; h < chunk.heads; ++h) {
      const float* v = values + j * rows + h * per_head;
      const float* f = factor + h * per_head;
      float total = 0;
      if (whole)
        total = sum(part_of(v, f));
      else
        for (index_t r = 0; r < per_head; ++r) total += v[r] * f[r];
      columns[h * column_stride + j] += total;
    }
}

/// The maximum of each row over a block.
inline void block_peaks(const float* logits, index_t count, index_t rows, float* peak) {
  for (index_t r = 0; r < rows; r += packet_size) {
    packet m = load(logits + r);
    for (offset_t j = 1; j < count; ++j) m = maximum(m, load(logits + j * rows + r));
    store(peak + r, m);
  }
}

/// mass[block][row] becomes the factor of its stored exponentials: weight * 2^(m - M) / total, M the row's maximum. The
/// block of the maximum has a mass of at least 1, so no total is 0.
inline void block_factors(index_t blocks, index_t rows, const column_scratch& b) {
  const offset_t end = static_cast<offset_t>(blocks) * rows;
  for (index_t r = 0; r < rows; r += packet_size) {
    packet top = load(b.peak + r), total = broadcast(0.0F);
    for (offset_t at = r; at < end; at += rows) top = maximum(top, load(b.peak + at));
    for (offset_t at = r; at < end; at += rows) {
      const packet part = exp2(subtract(load(b.peak + at), top));
      total = multiply_add(load(b.mass + at), part, total);
      store(b.peak + at, part);
    }
    const packet factor = divide(load(b.weight + r), total);
    for (offset_t at = r; at < end; at += rows) store(b.mass + at, multiply(factor, load(b.peak + at)));
  }
}

/// out[query_head of the group][slot] += weight * a[i, slot] for the rows of a chunk. Never inlined: every policy that
/// scores this way shares one copy, which keeps a program with many policies quick to compile.
template <class Steps, class Attention, class Inputs>
[[gnu::noinline]] void add_columns(const Attention& s, const Inputs& in, const score::row_context& row,
                                   const row_chunk& chunk, float* out, offset_t column_stride,
                                   const column_scratch& b) {
  constexpr bool known = Attention::gain_type::plain && Inputs::template has<input_kind::log_sum_exp>;
  const auto& keys = in.cache.keys();
  pack_queries<Steps>(s, in, row, chunk, b);
  const index_t rows = chunk.rows();
  const index_t first = b.visible[0], last = b.visible[chunk.last - chunk.first - 1];  // seen by all rows, by any
  if (last < 1) return;  // every slot that these rows saw has been evicted
  const index_t blocks = (last + block_keys - 1) / block_keys;
  float* columns = out + chunk.head * column_stride;
  const typename Steps::element* found[block_keys];

  for (index_t block = 0; block < blocks; ++block) {
    const index_t slot = block * block_keys, count = least(block_keys, last - slot);
    const bool partial = slot + count > first;
    float* const peak = known ? nullptr : b.peak + static_cast<offset_t>(block) * rows;
    find_keys<Steps>(keys, row.row, slot, last, b.keys, found);
    const auto ahead = [&](index_t j) __attribute__((always_inline)) {  // see prefetch.hpp
      prefetch_keys(keys, row.row, slot + block_keys + j, last);
      if constexpr (!known) {  // where the exponentials of this tile go
        const float* to = b.stored + static_cast<offset_t>(slot + j) * rows;
        prefetch_bytes<2, true>(to, static_cast<offset_t>(tile_keys) * rows * static_cast<offset_t>(sizeof(float)));
      }
    };
    multiply_block<Steps>(found, count, keys.dims(), rows, b, partial ? nullptr : peak, ahead);
    if constexpr (known) {
      exponentials(b.logits, b.lse, count, rows, b.logits, nullptr);
      if (partial) mask_block(b.logits, slot, count, rows, b.visible, 0.0F);
      add_block(b.logits, b.weight, count, rows, chunk, columns + slot, column_stride);
    } else {
      float* const stored = b.stored + static_cast<offset_t>(slot) * rows;
      // What a row does not see weighs nothing: below any maximum at first, and exactly zero once it is stored. A row
      // that sees none of the block has the mass of the block times 2^(-max - M) = 0.
      if (partial) {
        mask_block(b.logits, slot, count, rows, b.visible, -std::numeric_limits<float>::max());
        block_peaks(b.logits, count, rows, peak);
      }
      exponentials(b.logits, peak, count, rows, stored, b.mass + static_cast<offset_t>(block) * rows);
      if (partial) mask_block(stored, slot, count, rows, b.visible, 0.0F);
    }
  }
  if constexpr (known) return;

  block_factors(blocks, rows, b);
  for (index_t block = 0; block < blocks; ++block) {  // in the order in which processors prefetch
    const index_t slot = block * block_keys;
    add_block(b.stored + static_cast<offset_t>(slot) * rows, b.mass + static_cast<offset_t>(block) * rows,
              least(block_keys, last - slot), rows, chunk, columns + slot, column_stride);
  }
}

}  // namespace kvevict::detail
