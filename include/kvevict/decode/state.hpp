// SPDX-License-Identifier: MIT
#pragma once

#include <kvevict/core/workspace.hpp>
#include <kvevict/policy/policy.hpp>
#include <kvevict/score/attention.hpp>
#include <type_traits>
#include <utility>

/// What a policy must remember of a sequence while its cache is evicted again and again: memory of the caller, one
/// piece per sequence, without pointers. It may be copied, written to disk and read back; the sequence then goes on as
/// if nothing had happened.
///
///     start      once per sequence
///     observe    after new slots were appended: a whole prompt, a piece of it, one token
///     evict      whenever the engine wants room: at each step, or every w steps with w slots of slack
///     compact    moves the state along with keys and values, as `side(states)`
///
/// @code
/// sequence_extent extent{.shape = view.shape(), .capacity = capacity};
/// extent.query_heads = query_heads;
/// extent.head_dim = head_dim;
/// std::vector<cache_line> memory(cache_lines(state_bytes(policy, extent)));
/// decode_state state{workspace_of(memory)};
/// status s = start(policy, extent, state);
///
/// std::vector<cache_line> scratch(cache_lines(workspace_bytes(cpu{}, policy, state, in)));  // after each append:
/// s = observe(cpu{}, policy, state, in, workspace_of(scratch));
/// s = evict(cpu{}, policy, state, in, kept, workspace_of(scratch));  // when there is too little room
/// s = compact_in_place(cpu{}, view, kept, side(state));
/// retained_lengths(kept, lengths);
/// @endcode
///
/// What is remembered follows from the policy's scorer:
///
///     all rows (H2O)         running column sums, [kv_heads][group][capacity]: each row's softmax runs over the
///                            slots cached when it passed, and what it gave to a slot stays until the slot is evicted
///     a window (SnapKV ..)   the last `window` queries; at an eviction they attend to the keys that are then cached.
///                            An engine that gives attention instead: the last `window` rows of it, each over the
///                            slots cached when it passed. Two definitions, both exact; they differ once slots that a
///                            row attended to are evicted, because only the first renormalises.
///     keys, values, chance   nothing
///
/// and of every slot its position. Evicting at each step and evicting every w steps are two definitions as well: a
/// slot competes only at an eviction, with what its scorer says then.
///
/// On the device: cuda/decode.cuh.
namespace kvevict {

/// What an engine feeds to a policy that reads attention.
enum class row_feed { queries, attention };

/// The extents of one sequence, all that the size of its state depends on beside the policy.
struct sequence_extent {
  cache_shape shape{};      ///< layers and kv_heads as in the calls; `seqs` is not read
  index_t capacity = 0;     ///< most slots that a row will ever hold
  index_t query_heads = 0;  ///< only where the policy reads attention
  index_t head_dim = 0;     ///< of a key; only where it is fed by queries
  /// What a budget given as a share is a share of, and PyramidKV's n. H2O's authors: fixed from the prompt.
  /// 0: of what the row holds at that moment.
  index_t prompt_length = 0;
  index_t sequence = 0;  ///< policies that draw by chance draw differently for different numbers
};

namespace detail {

/// What the scorer of a policy needs of passed rows.
struct row_memory {
  index_t window = 0;  ///< rows to remember
  index_t sums = 0;    ///< sources that accumulate all rows
};

template <class Scorer>
[[nodiscard]] constexpr row_memory memory_of(const Scorer& scorer) {
  row_memory m;
  score::each_source(scorer, [&](const auto& s) {
    if constexpr (requires { s.reads_rows; }) {
      if (s.window == score::all_rows)
        ++m.sums;
      else
        m.window = greatest(m.window, s.window);
    }
  });
  return m;
}

/// The front of a state, and where its parts lie.
struct state_header {
  static constexpr std::uint64_t expected = 0x6b76657669637402u;  // "kvevict", format 2
  std::uint64_t magic;
  index_t layers, kv_heads, capacity, group_size, head_dim, prompt_length, sequence, window, sums, feed;
  index_t seen;
  index_t unused;  ///< fills the place of padding, so that equal states have equal bytes

  friend constexpr bool operator==(const state_header&, const state_header&) = default;

  /// Whether the bytes can be a header at all; what else they may hold is compared with the call.
  [[nodiscard]] constexpr bool plausible() const {
    return magic == expected && layers >= 1 && kv_heads >= 1 && capacity >= 1 && group_size >= 1 && head_dim >= 0 &&
           prompt_length >= 0 && window >= 0 && sums >= 0 && sums <= 1 && seen >= 0 && countable();
  }
  /// Whether the size of the state is a number of bytes.
  [[nodiscard]] constexpr bool countable() const {
    const double rows = static_cast<double>(layers) * kv_heads * group_size;
    return rows * (static_cast<double>(capacity) + head_dim) * (1.0 + window) < 1e17;
  }
};

static_assert(std::has_unique_object_representations_v<state_header>);

struct state_parts {
  state_header* header = nullptr;
  index_t* lengths = nullptr;    ///< [rows]
  index_t* seen = nullptr;       ///< [rows], the header's number: rows that run side by side have one each
  index_t* positions = nullptr;  ///< [rows][capacity]
  float* sums = nullptr;         ///< [rows][group_size][capacity]
  float* recent = nullptr;       ///< queries [window][layers][query_heads][head_dim], or
                                 ///< attention [window][layers][query_heads][capacity]

  KVEVICT_HOST_DEVICE static constexpr state_parts take(carver& from, const state_header& h) {
    const offset_t rows = static_cast<offset_t>(h.layers) * h.kv_heads;
    state_parts p{};
    p.header = from.take<state_header>(1);
    p.lengths = from.take<index_t>(rows);
    p.seen = from.take<index_t>(rows);
    p.positions = from.take<index_t>(rows * h.capacity);
    p.sums = from.take<float>(h.sums * rows * h.group_size * h.capacity);
    p.recent = from.take<float>(h.window * rows * h.group_size * entry_of(h));
    return p;
  }
  /// Makes it the state of a sequence that has seen nothing.
  KVEVICT_HOST_DEVICE constexpr void clear(const state_header& h) const {
    *header = h;
    for (offset_t r = 0; r < static_cast<offset_t>(h.layers) * h.kv_heads; ++r) lengths[r] = seen[r] = 0;
  }
  [[nodiscard]] KVEVICT_HOST_DEVICE static constexpr offset_t entry_of(const state_header& h) {
    return h.feed == static_cast<index_t>(row_feed::attention) ? h.capacity : h.head_dim;
  }
};

template <row_feed Feed, class Policy>
[[nodiscard]] constexpr state_header header_of(const Policy& policy, const sequence_extent& e) {
  const row_memory m = memory_of(policy.scorer());
  const bool reads = m.window > 0 || m.sums > 0;
  const bool queries = m.window > 0 && Feed == row_feed::queries;
  return {state_header::expected,
          e.shape.layers,
          e.shape.kv_heads,
          e.capacity,
          reads ? greatest(1, e.query_heads / greatest(1, e.shape.kv_heads)) : 1,
          queries ? e.head_dim : 0,
          e.prompt_length,
          e.sequence,
          m.window,
          m.sums,
          static_cast<index_t>(Feed),
          0,
          0};
}

[[nodiscard]] constexpr offset_t state_bytes(const state_header& header) {
  carver count;
  state_parts::take(count, header);
  return count.bytes();
}

}  // namespace detail

/// A sequence's state, seen in the caller's bytes; aligned as a workspace. Its type says what the engine feeds:
/// `decode_state` is fed by queries, `decode_state<row_feed::attention>` by attention.
template <row_feed Feed = row_feed::queries>
class decode_state {
 public:
  static constexpr row_feed feed = Feed;

  constexpr decode_state() = default;
  explicit decode_state(const workspace& bytes) : bytes_(bytes) {}

  /// Tokens observed so far, evicted ones included.
  [[nodiscard]] index_t seen() const { return header().seen; }
  /// Slots of a row as of the last call, and their positions, ascending. The row's `seq` is not read.
  [[nodiscard]] index_t length(const row_id& row) const { return parts().lengths[index(row)]; }
  [[nodiscard]] span<const index_t> positions(const row_id& row) const {
    const detail::state_parts p = parts();
    return {p.positions + index(row) * p.header->capacity, p.lengths[index(row)]};
  }

  /// Whether the bytes hold a state that was started and not cut short.
  [[nodiscard]] status check() const {
    if (bytes_.data == nullptr) return {status_code::bad_pointer, "state", "the state is null"};
    if (reinterpret_cast<std::uintptr_t>(bytes_.data) % workspace_alignment != 0)
      return {status_code::small_output, "state", "a state must start at a multiple of 64 bytes"};
    if (bytes_.size() < carver::round_up(sizeof(detail::state_header)) || !header().plausible())
      return {status_code::bad_input, "state", "these bytes are not a state; call start first"};
    if (header().feed != static_cast<index_t>(Feed))
      return {status_code::bad_input, "state", "the state was started to be fed otherwise: queries, or attention"};
    const offset_t needed = detail::state_bytes(header());
    if (bytes_.size() < needed) return {status_code::small_output, "state", "the state was cut short", needed};
    const detail::state_parts p = parts();
    for (offset_t r = 0; r < static_cast<offset_t>(p.header->layers) * p.header->kv_heads; ++r)
      if (p.lengths[r] < 0 || p.lengths[r] > least(p.header->capacity, p.seen[r]))
        return {status_code::bad_input, "state", "the state holds a row of more slots than its capacity or its tokens"};
    return {};
  }

  [[nodiscard]] const workspace& bytes() const { return bytes_; }
  [[nodiscard]] KVEVICT_HOST_DEVICE const detail::state_header& header() const {
    return *reinterpret_cast<const detail::state_header*>(bytes_.data);
  }
  [[nodiscard]] KVEVICT_HOST_DEVICE detail::state_parts parts() const {
    carver from(bytes_.data);
    return detail::state_parts::take(from, header());
  }
  /// Number of a row inside the state: layer * kv_heads + kv_head.
  [[nodiscard]] KVEVICT_HOST_DEVICE offset_t index(const row_id& row) const {
    return static_cast<offset_t>(row.layer) * header().kv_heads + row.kv_head;
  }

 private:
  workspace bytes_{};
};

decode_state(workspace)->decode_state<>;

/// The states of the sequences of a call, [seqs]; one state serves a call of one sequence. What takes states takes
/// one `decode_state`, or a container of them.
template <row_feed Feed>
struct decode_states : span<const decode_state<Feed>> {
  static constexpr row_feed feed = Feed;
  using span<const decode_state<Feed>>::span;
};

template <row_feed Feed>
[[nodiscard]] decode_states<Feed> states_of(const decode_state<Feed>& only) {
  return {&only, 1};
}
template <class Range>
requires requires { std::remove_cvref_t<decltype(*std::declval<const Range&>().data())>::feed; }
[[nodiscard]] auto states_of(const Range& range) {
  constexpr row_feed feed = std::remove_cvref_t<decltype(*range.data())>::feed;
  return decode_states<feed>(range.data(), static_cast<offset_t>(range.size()));
}
template <row_feed Feed>
[[nodiscard]] decode_states<Feed> states_of(const decode_states<Feed>& states) {
  return states;
}

/// Bytes of a state; 0 where `start` will refuse the extents.
template <row_feed Feed = row_feed::queries, eviction_policy Policy>
[[nodiscard]] constexpr offset_t state_bytes(const Policy& policy, const sequence_extent& extent) {
  const detail::state_header header = detail::header_of<Feed>(policy, extent);
  return header.plausible() ? detail::state_bytes(header) : 0;
}

namespace detail {

/// What `start` asks of a policy, the extents and the state's bytes, whose contents it does not read.
template <row_feed Feed, class Policy>
[[nodiscard]] status check_start(const Policy& policy, const sequence_extent& e, const decode_state<Feed>& state) {
  if (const status s = check(policy); !s.ok()) return s;
  const row_memory m = memory_of(policy.scorer());
  if (e.shape.layers < 1) return {status_code::bad_shape, "layers", "layers must be at least 1"};
  if (e.shape.kv_heads < 1) return {status_code::bad_shape, "kv_heads", "kv_heads must be at least 1"};
  if (e.capacity < 1) return {status_code::bad_shape, "capacity", "the capacity must be at least one slot"};
  if (e.prompt_length < 0) return {status_code::bad_shape, "prompt_length", "prompt_length must not be negative"};
  if ((m.window > 0 || m.sums > 0) && (e.query_heads < e.shape.kv_heads || e.query_heads % e.shape.kv_heads != 0))
    return {status_code::bad_shape, "query_heads", "query_heads must be a positive multiple of kv_heads"};
  if (m.window > 0 && Feed == row_feed::queries && e.head_dim < 1)
    return {status_code::bad_shape, "head_dim", "head_dim must be at least 1"};
  if (m.sums > 1)
    return {status_code::bad_option, "policy", "a state can accumulate all rows for one source of a scorer only"};
  if (!header_of<Feed>(policy, e).countable())
    return {status_code::bad_shape, "extent", "the state of such a sequence has more bytes than can be counted"};
  if (state.bytes().data == nullptr) return {status_code::bad_pointer, "state", "the state is null"};
  const offset_t needed = state_bytes<Feed>(policy, e);
  if (state.bytes().size() < needed)
    return {status_code::small_output, "state", "the state is too small; see state_bytes", needed};
  if (reinterpret_cast<std::uintptr_t>(state.bytes().data) % workspace_alignment != 0)
    return {status_code::small_output, "state", "a state must start at a multiple of 64 bytes", needed};
  return {};
}

}  // namespace detail

/// Makes the bytes the state of a sequence that has seen nothing. Later calls need the same policy and extents; its
/// budget may change.
template <row_feed Feed, eviction_policy Policy>
status start(const Policy& policy, const sequence_extent& e, const decode_state<Feed>& state) {
  if (const status s = detail::check_start(policy, e, state); !s.ok()) return s;
  const detail::state_header header = detail::header_of<Feed>(policy, e);
  carver from(state.bytes().data);
  detail::state_parts::take(from, header).clear(header);
  return {};
}

}  // namespace kvevict
