// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <kvevict/cuda/score/slot_entries.hpp>
#include <kvevict/score/keys.hpp>

/// Scores from keys alone. Against exact arithmetic on the same keys:
///
///     key_norm    relative error below (dims / 32 + 6) 2^-24
///     key_diff    error below (dims / 32 + 12) 2^-23 (1 + 1 / ||m||), m the mean of the normalised keys
namespace kvevict::detail {

template <>
struct source_program<score::key_norm> {
  static void plan(const score::key_norm&, const program_extent&, carver&) {}
  template <class Program>
  KVEVICT_HOST_DEVICE static void run(const Program& p, const score::key_norm&, float* out, carver) {
    const float* const squares = p.extent.of_row(p.extent.numbers.key_squares, p.row.row);
    p.write(
        p.b.global(out, p.row.length), [&](int t, index_t j) { return p.b.template load<float>(t, squares + j); },
        [](int, float square) { return -std::sqrt(square); });
    p.b.sync();
  }
};
template <class Inputs>
inline constexpr auto passes_of<score::key_norm, Inputs> = slot_passes<entry_squares<entry_part::keys>>{};

/// KeyDiff: what scales keys to norm 1, and the sums of the scaled keys of every stretch of the row, a warp's. Keys
/// that fit into the lanes of a warp are read once for both.
struct key_sums : slot_pass {
  static constexpr int stretch = 128;        ///< slots, a multiple of what a warp has at a time
  static constexpr int blocks_together = 2;  ///< for want of registers

  static void take(slot_numbers& numbers, carver& from, offset_t rows, const program_extent& extent) {
    numbers.key_angles = from.take<float>(rows * extent.length);
    numbers.key_sums = from.take<float>(rows * sums_per_row(extent));
    numbers.key_anchors = from.take<float>(rows * extent.key_dims);
  }
  [[nodiscard]] static constexpr offset_t warps(const program_extent& extent) { return stretches(extent.length); }
  [[nodiscard]] KVEVICT_HOST_DEVICE static constexpr offset_t stretches(index_t length) {
    return (static_cast<offset_t>(length) + stretch - 1) / stretch;
  }
  [[nodiscard]] KVEVICT_HOST_DEVICE static constexpr offset_t sums_per_row(const program_extent& extent) {
    return stretches(extent.length) * extent.key_dims;
  }
  [[nodiscard]] KVEVICT_HOST_DEVICE static float scale_of(float squares) {
    return 1.0F / greatest(std::sqrt(squares), 1e-12F);
  }

  template <class Block, class Inputs>
  KVEVICT_HOST_DEVICE static void run(Block& b, const Inputs& in, const program_extent& extent, const row_id& row,
                                      index_t part, index_t parts) {
    const auto& keys = in.cache.keys();
    const index_t length = in.cache.length(row);
    float* const scales = extent.of_row(extent.numbers.key_angles, row);
    float* const sums = extent.numbers.key_sums + row.index * sums_per_row(extent);
    const index_t warps = b.threads() / warp_threads;
    with_entry_lanes(keys, row, length, [&](const auto& lanes) {
      KVEVICT_ROLLED for (offset_t n = part; n < stretches(length); n += static_cast<offset_t>(parts) * warps) {
        KVEVICT_ROLLED for (index_t piece = 0; piece < lanes.pieces; piece += lanes.along) {
          if (piece != 0) b.sync();  // the scales are there
          sum_stretches(b, lanes, n, parts, piece, scales, sums);
        }
      }
    });
  }

 private:
  /// What a thread has of a stretch: its slots' keys in floats, their sums in doubles.
  template <class Lanes>
  struct holding {
    typename Lanes::taken x;
    double total[std::size_t{Lanes::dims}];
  };

  /// Pieces `piece` and those beside of stretch n of the first warp, n + parts of the second and so on.
  template <class Block, class Lanes>
  KVEVICT_HOST_DEVICE static void sum_stretches(Block& b, const Lanes& lanes, offset_t n, index_t parts, index_t piece,
                                                float* scales, float* sums) {
    using local = decltype(b.template make_local<float>());
    const auto stretch_of = [&](int t) { return n + static_cast<offset_t>(t / warp_threads) * parts; };
    const auto own_piece = [&](int t) { return piece + lanes.first_piece(t); };
    auto held = b.template make_local<holding<Lanes>>();
    b.each([&](int t) { held[t] = {}; });
    local squares[entries_at_once];
    KVEVICT_UNROLLED for (int s = 0; s < entries_at_once; ++s) squares[s] = b.template make_local<float>();
    KVEVICT_ROLLED for (int done = 0; done < stretch; done += lanes.slots()) {
      const auto slot_of = [&](int t, int s) { return lanes.slot(t, stretch_of(t) * stretch + done, s); };
      b.each([&](int t) {
        lanes.with_entries(t, stretch_of(t) * stretch + done, [&](const auto& load) {
          auto& x = held[t].x;
          if (own_piece(t) < lanes.pieces) load(x, own_piece(t));
          if (piece == 0) {
            KVEVICT_UNROLLED for (int s = 0; s < entries_at_once; ++s) squares[s][t] = squares_of(x[s]);
            KVEVICT_ROLLED for (index_t p = own_piece(t) + lanes.along; p < lanes.pieces; p += lanes.along) {
              typename Lanes::taken more;
              load(more, p);
              KVEVICT_UNROLLED for (int s = 0; s < entries_at_once; ++s) squares[s][t] += squares_of(more[s]);
            }
          }
        });
      });
      if (piece == 0) {
        lane_sums(b, squares, 1, lanes.along);
        b.each([&](int t) {
          KVEVICT_UNROLLED for (int s = 0; s < entries_at_once; ++s) {
            squares[s][t] = scale_of(squares[s][t]);
            if (lanes.speaks(t) && slot_of(t, s) < lanes.length) b.store(t, scales + slot_of(t, s), squares[s][t]);
          }
        });
      }
      b.each([&](int t) {
        float scale[entries_at_once];
        KVEVICT_UNROLLED for (int s = 0; s < entries_at_once; ++s) {
          const bool is_slot = slot_of(t, s) < lanes.length;
          scale[s] = squares[s][t];
          if (piece != 0 && is_slot) scale[s] = b.template load<float>(t, scales + slot_of(t, s));
          if (is_slot) continue;
          KVEVICT_UNROLLED for (int e = 0; e < Lanes::dims; ++e) held[t].x[s][e] = 0;
          scale[s] = 0;
        }
        KVEVICT_UNROLLED for (int e = 0; e < Lanes::dims; ++e) held[t].total[e] +=
            static_cast<double>(sum_of_pairs<entries_at_once>([&](int s) { return held[t].x[s][e] * scale[s]; }));
      });
    }
    decltype(b.template make_local<double>()) total[std::size_t{Lanes::dims}];
    KVEVICT_UNROLLED for (int e = 0; e < Lanes::dims; ++e) {
      total[e] = b.template make_local<double>();
      b.each([&](int t) { total[e][t] = held[t].total[e]; });
    }
    lane_sums(b, total, lanes.along, warp_threads);
    b.each([&](int t) {
      const offset_t to = stretch_of(t), dims = static_cast<offset_t>(lanes.pieces) * Lanes::dims;
      if (t % warp_threads >= lanes.along || own_piece(t) >= lanes.pieces || to >= stretches(lanes.length)) return;
      KVEVICT_UNROLLED for (int e = 0; e < Lanes::dims; ++e)
          b.store(t, sums + to * dims + own_piece(t) * Lanes::dims + e, static_cast<float>(total[e][t]));
    });
  }
  template <std::size_t Dims>
  [[nodiscard]] KVEVICT_HOST_DEVICE static float squares_of(const float (&x)[Dims]) {
    return sum_of_pairs<static_cast<int>(Dims)>([&](int e) { return x[e] * x[e]; });
  }
};

/// KeyDiff: the mean of the scaled keys, a few lanes of a warp for every dim.
struct key_anchor : slot_pass {
  static constexpr int dims_of_warp = 8, at_once = 8;

  [[nodiscard]] static constexpr offset_t warps(const program_extent& extent) {
    return (extent.key_dims + dims_of_warp - 1) / dims_of_warp;
  }
  template <class Block, class Inputs>
  KVEVICT_HOST_DEVICE static void run(Block& b, const Inputs& in, const program_extent& extent, const row_id& row,
                                      index_t part, index_t parts) {
    constexpr int lanes = warp_threads / dims_of_warp;
    const index_t dims = extent.key_dims, length = in.cache.length(row);
    const offset_t stretches = key_sums::stretches(length);
    const float* const sums = extent.numbers.key_sums + row.index * key_sums::sums_per_row(extent);
    float* const anchor = extent.numbers.key_anchors + static_cast<offset_t>(row.index) * dims;
    const offset_t of_block = b.threads() / lanes;
    KVEVICT_ROLLED for (offset_t first = part * of_block; first < dims; first += parts * of_block) {
      const auto dim_of = [&](int t) { return first + t / warp_threads * dims_of_warp + t % dims_of_warp; };
      decltype(b.template make_local<double>()) total[] = {b.template make_local<double>()};
      b.each([&](int t) {
        total[0][t] = 0;
        if (dim_of(t) >= dims) return;
        KVEVICT_ROLLED for (offset_t n = t % warp_threads / dims_of_warp; n < stretches; n += at_once * lanes) {
          float x[at_once] = {};
          KVEVICT_UNROLLED for (int i = 0; i < at_once; ++i) {
            if (n + i * lanes < stretches) x[i] = b.template load<float>(t, sums + (n + i * lanes) * dims + dim_of(t));
          }
          KVEVICT_UNROLLED for (int i = 0; i < at_once; ++i) total[0][t] += static_cast<double>(x[i]);
        }
      });
      lane_sums(b, total, dims_of_warp, warp_threads);
      b.each([&](int t) {
        if (t % warp_threads < dims_of_warp && dim_of(t) < dims)
          b.store(t, anchor + dim_of(t), static_cast<float>(total[0][t] / length));
      });
    }
  }
};

/// KeyDiff: the cosine between every key and the anchor.
struct key_angles : slot_pass {
  template <class Block, class Inputs>
  KVEVICT_HOST_DEVICE static void run(Block& b, const Inputs& in, const program_extent& extent, const row_id& row,
                                      index_t part, index_t parts) {
    const index_t dims = extent.key_dims;
    float* const angles = extent.of_row(extent.numbers.key_angles, row);  // until now the keys' scales
    const float* const anchor = extent.numbers.key_anchors + static_cast<offset_t>(row.index) * dims;
    auto scale = b.template make_local<float>();  // every warp computes the same
    b.each([&](int t) {
      scale[t] = 0;
      for (index_t d = t % warp_threads; d < dims; d += warp_threads) {
        const float x = b.template load<float>(t, anchor + d);
        scale[t] += x * x;
      }
    });
    scale = warp_sums(b, scale);
    b.each([&](int t) { scale[t] = key_sums::scale_of(scale[t]); });
    with_entry_lanes(in.cache.keys(), row, in.cache.length(row), [&](const auto& lanes) {
      sums_of_slots(
          b, lanes, part, parts, [&](int t, float x, index_t d) { return x * b.template load<float>(t, anchor + d); },
          [&](int t, index_t j, float dot) {
            b.store(t, angles + j, dot * b.template load<float>(t, angles + j) * scale[t]);
          });
    });
  }
};

template <>
struct source_program<score::key_diff> {
  static void plan(const score::key_diff&, const program_extent&, carver&) {}
  template <class Program>
  KVEVICT_HOST_DEVICE static void run(const Program& p, const score::key_diff&, float* out, carver) {
    const float* const angles = p.extent.of_row(p.extent.numbers.key_angles, p.row.row);
    p.write(p.b.global(out, p.row.length), [&](int t, index_t j) { return -p.b.template load<float>(t, angles + j); });
    p.b.sync();
  }
};
template <class Inputs>
inline constexpr auto passes_of<score::key_diff, Inputs> = slot_passes<key_sums, key_anchor, key_angles>{};

}  // namespace kvevict::detail
