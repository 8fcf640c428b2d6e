// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/kvevict.hpp>
#include <vector>

/// What happens to memory on the device behind a selection; on_device_moves.cpp knows what must come out.
namespace on_device {

using kvevict::index_t;
using kvevict::offset_t;

/// A paged cache with a table per row and one pool, fp32 or 16 bits, and what its rows retain.
template <class Element>
struct paged_rows {
  kvevict::cache_shape shape;
  index_t max_blocks = 0, block_size = 0, dims = 0;
  std::vector<index_t> table{}, lengths{}, held{};  ///< [rows][max_blocks], [rows], [rows]
  std::vector<Element> keys{}, values{};            ///< [blocks][block_size][dims]
  std::vector<index_t> slots{};
  std::vector<offset_t> offsets{};
  std::vector<double> frequencies{};
  kvevict::rope_pairs pairs{};
  std::vector<index_t> freed{};  ///< by `compact_and_free`
};

/// Compacts in place with keys that turn, then shortens the lengths and frees blocks: changes `rows` as the device
/// does; false where a call was refused.
template <class Element>
bool compact_and_free(paged_rows<Element>& rows);

/// Turns the keys of all occupied slots from these positions to those, [rows][max_blocks * block_size].
template <class Element>
bool rotate(paged_rows<Element>& rows, const std::vector<index_t>& from, const std::vector<index_t>& to);

/// What the calls say to arguments that may be refused before anything reaches a device.
kvevict::status free_blocks_of(const kvevict::paged& layout, const kvevict::cache_shape& shape, index_t slack,
                               index_t* counts, const kvevict::span<index_t>& freed, offset_t* freed_count);
kvevict::status rotate_one_row(float* keys, const kvevict::rope& embedding, const index_t* from, const index_t* to);

}  // namespace on_device
