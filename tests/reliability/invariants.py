# SPDX-License-Identifier: MIT
"""What must always hold, and for each of it a bug that breaks it: the kind that a tired programmer writes.

inject.py applies them one by one. `old` stands exactly once in `file`; `caught_by` are the test programs that have to
fail, all of them; of `program:source` only the test cases of that source are run.
"""
from typing import NamedTuple


class Bug(NamedTuple):
    name: str  # the invariant
    mistake: str
    file: str
    old: str
    new: str
    caught_by: tuple


BUGS = []


def bug(name, mistake, file, old, new, *caught_by):
    BUGS.append(Bug(name, mistake, f"include/kvevict/{file}", old, new, caught_by))


# Numbers and shapes

bug("A half is the number it stands for, infinity included", "> for >=", "core/element.hpp",
    "magnitude >= 0x0f800000u", "magnitude > 0x0f800000u", "core")
bug("Halves are rounded to nearest, ties to even", "ties away from zero", "core/element.hpp",
    "magnitude + 0xfffu + ((magnitude >> 13) & 1u)", "magnitude + 0x1000u", "core")
bug("A share of a budget is exact on every machine", "the product of a binary fraction", "core/amount.hpp",
    "static_cast<offset_t>(millionths) * whole / 1000000", "static_cast<offset_t>(millionths / 1e6 * whole)", "budget")
bug("Extents that cannot be numbered are refused", "the product is an int", "view/check.hpp",
    "static_cast<offset_t>(shape.layers) * shape.seqs > most", "shape.layers * shape.seqs > most", "policy")
bug("Element offsets are 64-bit", "int instead of offset_t", "view/strided.hpp",
    "const offset_t entry = dims, head = entry * capacity, seq = head * heads;",
    "const index_t entry = dims, head = entry * capacity, seq = head * heads;", "extents")
bug("The capacity of a table row is 64-bit", "int instead of offset_t", "view/paged.hpp",
    "return static_cast<offset_t>(max_blocks) * block_size;", "return max_blocks * block_size;", "extents")
bug("Sums over rows are 64-bit", "int instead of offset_t", "cpu/detail/memory.hpp",
    "offset_t slots = 0;\n    for (row_id row;",
    "index_t slots = 0;\n    for (row_id row;", "extents")

# What is read

bug("A query row sees its own slot and those before", "off by one", "cpu/score/attention.hpp",
    "position.before(i + 1, row.length)", "position.before(i, row.length)", "score")
bug("After an eviction a row sees the slots up to its position, not up to its index", "slots instead of positions",
    "cpu/detail/attention_operands.hpp", "seen_by.before(position + 1, row.length)",
    "least(position + 1, row.length)", "decode")
bug("Positions are searched for the first that is not below", "<= for <", "view/inputs.hpp",
    "if ((*this)(middle) < end)", "if ((*this)(middle) <= end)", "decode")
bug("A row sees no slot behind its own", "<= for < where the last slot is asked first", "view/inputs.hpp",
    "(*this)(length - 1) < end", "(*this)(length - 1) <= end", "decode")
bug("What is given as too few query rows is refused", "rows are counted against the cache",
    "cpu/score/attention.hpp", "if (rows < least(s.window, row.seen))", "if (rows < least(s.window, 1))", "policy")
bug("A row of no slots is refused", "< 0 for < 1", "view/check.hpp",
    "if (length < 1) return {status_code::bad_shape, \"length\"", "if (length < 0) return {status_code::bad_shape, \"length\"",
    "policy")
bug("A row longer than its memory is refused", "off by one", "view/check.hpp",
    "return length <= entries.layout.capacity(row);", "return length - 1 <= entries.layout.capacity(row);", "decode")

# Scores

bug("Scores of a row do not depend on what the memory held", "the sums are not cleared", "cpu/score/attention.hpp",
    "out[i] = 0.0F;", "static_cast<void>(out[i]);", "score")
bug("Loops in blocks go on to the last number", "they end with the last whole block", "core/blocks.hpp",
    "for (; i < count; ++i) f(i);", "", "score")
bug("Entries are read where they lie only if their dims are close together", "wherever they are floats",
    "cpu/detail/entry.hpp", "if (dense_dims(from)) return", "return", "conformance")
bug("Given attention is added to whole packets and to what is left", "the rest is forgotten", "cpu/score/attention.hpp",
    "each_in_blocks(count - j, [&](index_t k) { columns", "each_in_blocks(0, [&](index_t k) { columns", "decode")
bug("Logits are scaled by 1 / sqrt(dims)", "the root is forgotten", "cpu/detail/attention_operands.hpp",
    "log2_of_e / std::sqrt(static_cast<float>(dims))", "log2_of_e / static_cast<float>(dims)", "score")
bug("AhaKV's gain counts the tokens that a row sees", "off by one", "cpu/detail/attention_operands.hpp",
    "s.gain(position + 1, row.budget)", "s.gain(position, row.budget)", "score")
bug("AhaKV's gain is sqrt(2 ln(i / k))", "the factor is forgotten", "score/gain.hpp",
    "std::sqrt(2 * std::log(", "std::sqrt(std::log(", "policy")
bug("The mean over the rows that see a slot goes by age", "indices instead of positions", "cpu/score/attention.hpp",
    "row.seen - 1 - position(j)", "row.length - 1 - j", "decode")
bug("The value prior is relative to the largest pooled norm", "the norms instead of the pooled norms",
    "cpu/score/prior.hpp", "peak = greatest(peak, pooled[j])", "peak = greatest(peak, norms[j])", "score")
bug("A row whose values are all zero keeps its scores", "a division by zero", "cpu/score/prior.hpp",
    "if (peak != 0.0F) array", "array", "score")
bug("Average pooling counts what lies beyond the border", "divided by the slots that are there", "cpu/score/pool.hpp",
    "array(out, count) /= static_cast<float>(width);",
    "for (index_t j = 0; j < count; ++j) "
    "out[j] /= static_cast<float>(least(count, j + width / 2 + 1) - greatest(0, j - width / 2));", "score")
bug("Maximum pooling ends at the border", "one slot too early", "cpu/score/pool.hpp",
    "raise(out + j, in + i, n);", "raise(out + j, in + i, n - 1);", "score")
bug("Recent slots are not pooled", "the whole row is", "cpu/score/pool.hpp",
    "const index_t count = row.length - row.recent;", "const index_t count = row.length;", "decode")
bug("The group is reduced by the mean of all its heads", "the last head is forgotten", "cpu/score/group.hpp",
    "for (index_t h = 1; h < row.group_size; ++h)", "for (index_t h = 1; h < row.group_size - 1; ++h)", "score")
bug("The mean of a layer is over its kv_heads", "one too few", "cpu/score/score.hpp",
    "mean /= static_cast<float>(shape.kv_heads);", "mean /= static_cast<float>(shape.kv_heads - 1);", "score")
bug("KeyDiff's anchor is the mean of normalised keys", "the sum of the keys themselves", "cpu/score/keys.hpp",
    "total[d] += static_cast<double>(key[d]) * scale;", "total[d] += static_cast<double>(key[d]);", "score")
bug("Chance is a function of seed, row and position", "the slot instead of the position", "cpu/score/position.hpp",
    "out[j] = score::uniform_number(s.seed, stream, static_cast<std::uint64_t>(position(j)));",
    "out[j] = score::uniform_number(s.seed, stream, static_cast<std::uint64_t>(j));", "decode")
bug("The draws of the layers of a model differ, in one call or many", "the layer of the call", "score/position.hpp",
    "static_cast<std::uint64_t>(shape.first_layer + row.layer)", "static_cast<std::uint64_t>(row.layer)", "score")
bug("The latest 2^24 tokens are told apart, however many there were", "the position itself as a float",
    "cpu/score/position.hpp", "static_cast<float>(position(j) - first)", "static_cast<float>(position(j))", "extents")

# Budgets

bug("PyramidKV's schedule goes by the layer of the model", "the layer of the call", "budget/pyramid.hpp",
    "rounded_product<double>(shape.first_layer + e.row.layer, step)", "rounded_product<double>(e.row.layer, step)", "budget")
bug("A short row protects no more slots than it has", "the sinks are counted twice", "select/protect.hpp",
    "static_cast<offset_t>(length - first)", "static_cast<offset_t>(length)", "select")
bug("H2O's recent slots are a share of the budget", "a share of the length", "select/protect.hpp",
    "recent.of(budget)", "recent.of(length)", "decode")
bug("The sum of a pool's budgets is exact", "off by one", "budget/split.hpp",
    "for (; left > 0; --left)", "for (; left > 1; --left)", "budget")
bug("Equal remainders go to the smaller row", ">= for >", "budget/split.hpp",
    "remainder[i] > remainder[largest]", "remainder[i] >= remainder[largest]", "budget")
bug("No row gets more slots than it has", "a full row still gets some", "budget/split.hpp",
    "if (share[i] < of(i).room && (", "if ((", "budget")
bug("Equal scores go to the smaller row", "the last row first", "budget/split.hpp",
    "for (index_t i = 0; i < rows; ++i) {  // rows in order", "for (index_t i = rows - 1; i >= 0; --i) {  // rows in order",
    "budget")
bug("Each row keeps the safeguard's share", "the other safeguard's rows get it", "budget/split.hpp",
    "if (rule.kind != budget::safeguard::minimum) return 0", "if (rule.kind != budget::safeguard::mixture) return 0", "budget")
bug("Protected slots count towards the safeguard's share", "the floor comes on top", "budget/split.hpp",
    "greatest(0, floor - protected_count)", "greatest(0, floor)", "budget")
bug("Budgets do not depend on what the workspace held", "shares are not cleared", "cpu/budget/adaptive.hpp",
    "for (index_t i = 0; i < rows; ++i) scratch.share[i] = 0;\n", "\n", "budget")
bug("Every rank keeps what one process would: its own heads' shares", "the first head is forgotten",
    "cpu/budget/across_ranks.hpp", "s.share[ranks.first_kv_head + h]", "s.share[h]", "budget")
bug("Floors of the ranks add up", "the floor is forgotten", "cpu/budget/across_ranks.hpp",
    "numbers[reached_above] += greatest(c.floor, s.above[r]);", "numbers[reached_above] += s.above[r];", "budget")
bug("Two workers share no scratch", "the worker is forgotten", "cpu/detail/memory.hpp",
    "carver place(pool_memory + worker * pool_memory_bytes);", "carver place(pool_memory);", "threads")
bug("A pool of the caller's own may have any rows", "those of a layer", "cpu/detail/memory.hpp",
    "own.pool_of_row != nullptr ? rows : least(rows, shape.kv_heads)", "least(rows, shape.kv_heads)", "budget")
bug("What rows keep together is known before what each keeps", "their lengths are forgotten",
    "cpu/select/rows.hpp", "return least(nominal, length);", "return nominal;", "budget")

# Selections

bug("NaN is below every number", "NaN as its bits order it", "select/order.hpp",
    "magnitude > 0x7f800000 ? Bits{} + (-0x7fffffff - 1) : number", "number", "select")
bug("-0 equals +0", "-0 as its bits order it", "select/order.hpp", "(magnitude ^ sign) - sign;", "magnitude ^ sign;", "select")
bug("A refused call writes nothing", "the first offset is set before the checks", "cpu/evict.hpp",
    "const status mine = [&]() -> status {", "if (out.offsets.data != nullptr) out.offsets[0] = 0;\n"
    "  const status mine = [&]() -> status {", "policy")
bug("Too little room for the selection is refused", "the slots are not counted", "cpu/evict.hpp",
    "detail::check_selection(out, shape.rows(), selection_capacity(policy, in))",
    "detail::check_selection(out, shape.rows(), 0)", "policy")
bug("A receipt counts the bytes of keys and values", "keys only", "view/cache.hpp",
    "return bytes(cache.keys()) + bytes(cache.values());", "return bytes(cache.keys());", "select", "decode")
bug("A union holds what any row retains", "> 1 for > 0", "cpu/select/one_set.hpp",
    "any += votes[j] > 0 ? 1 : 0;", "any += votes[j] > 1 ? 1 : 0;", "select")
bug("A vote keeps the average, rounded down", "rounded up", "cpu/select/one_set.hpp",
    "any : total / rows.count()", "any : (total + rows.count() - 1) / rows.count()", "select")
bug("A token set of a sequence covers its rows in all layers", "the sequences of a layer are forgotten",
    "cpu/select/one_set.hpp", "(i / shape.kv_heads * shape.seqs + set)", "(i / shape.kv_heads + set)", "select")

# Memory

bug("Retained slots of a selection ascend", "a slot twice is let through", "compact/moves.hpp",
    "next = slot + 1;", "next = slot;", "compact")
bug("A row of a selection has room to grow in flat memory", "the slack is forgotten", "compact/moves.hpp",
    "(kept.offsets[r + 1] - kept.offsets[r]) + slack;", "(kept.offsets[r + 1] - kept.offsets[r]);", "compact")
bug("A side array goes where its own layout says", "the layout of the source", "compact/moves.hpp",
    "to[to_layout.offset(row, target, 0)]", "to[from_layout.offset(row, target, 0)]", "compact")
bug("Memory that overlaps is refused", "the last element is not counted", "cpu/compact/gather.hpp",
    "a.at(row, last, a.dims() - 1)", "a.at(row, last, 0)", "compact")
bug("Swap-fill moves as few entries as can be", "off by one", "cpu/compact/swap_fill.hpp",
    "if (place < m) continue;", "if (place < m - 1) continue;", "compact")
bug("Swap-fill fills only holes that evicted tokens leave", "<= for <", "cpu/compact/swap_fill.hpp",
    "order(row, evicted) < m", "order(row, evicted) <= m", "compact")
bug("Behind what is retained a token order is that of the slots", "left as it was", "cpu/compact/swap_fill.hpp",
    "for (index_t k = m; k < length; ++k) order(row, k) = k;", "", "compact")
bug("A token order has every slot once", "the sums are not compared", "view/reordered.hpp",
    "sums == 0 && squares == 0", "sums + squares != 1", "compact")
bug("A negative length frees nothing", "taken as none", "compact/blocks.hpp",
    "length < 0 ? most_slots : length", "length", "compact")
bug("A key turns to its new position", "the sign", "cpu/compact/rotate.hpp",
    "static_cast<offset_t>(after(j)) - before(j)", "static_cast<offset_t>(before(j)) - after(j)", "compact")
bug("The pairs of RoPE are the model's", "the two kinds swapped", "cpu/detail/turn_key.hpp",
    "embedding.pairs == rope_pairs::half_split", "embedding.pairs == rope_pairs::interleaved", "compact")
bug("A row is no longer than its loops can count", "one more", "core/types.hpp",
    "std::numeric_limits<index_t>::max() - 1023", "std::numeric_limits<index_t>::max() - 1022", "extents")
bug("New entries go behind the last slot", "off by one", "cpu/decode/append.hpp",
    "copy_slot(added, to, row, i, first + i)", "copy_slot(added, to, row, i, first + i - (first > 0 ? 1 : 0))", "decode")
bug("Every row belongs to one worker's piece", "its first row to none", "cpu/detail/pieces.hpp",
    "if (before >= first) task(t, worker);", "if (before > first) task(t, worker);", "threads")
bug("A new slot lies in a block that the table names", "negative numbers are blocks", "view/paged.hpp",
    "max_blocks + b] < 0", "max_blocks + b] < -7", "decode")
bug("A full row is refused", "the new slots are not counted", "cpu/decode/append.hpp",
    "bool fits = has_room(to.keys(), row, length + more);", "bool fits = has_room(to.keys(), row, length);",
    "decode")
bug("No block is freed that still holds a slot", "rounded down", "compact/blocks.hpp",
    "(longest + slack + layout.block_size - 1) / layout.block_size", "(longest + slack) / layout.block_size", "compact")
bug("Every block is freed exactly once", "the counts stay", "compact/blocks.hpp",
    "counts.data[t] = least(counts.data[t], needed);", "", "compact")
bug("Every block that can be is freed", "off by one", "compact/blocks.hpp",
    "for (index_t b = needed; b < counts.data[t]; ++b)", "for (index_t b = needed + 1; b < counts.data[t]; ++b)", "compact")
bug("A refused call frees nothing", "the count is cleared before the checks", "compact/blocks.hpp",
    "  offset_t total = 0;\n", "  offset_t total = freed_count = 0;\n", "compact")

# Decode

bug("Running sums of every query_head survive a compaction", "one head per row", "cpu/decode/side.hpp",
    "i < h.sums * h.group_size", "i < h.sums", "decode")
bug("Positions follow the retained slots", "those of the first row", "cpu/decode/side.hpp",
    "keep(p.positions + at * capacity);", "keep(p.positions);", "decode")
bug("A new slot starts with its own row's weight", "the last one is not cleared", "cpu/decode/observe.hpp",
    "for (index_t j = row.length - added; j < row.length; ++j) head[j] = 0.0F;",
    "for (index_t j = row.length - added; j < row.length - 1; ++j) head[j] = 0.0F;", "decode")
bug("The remembered rows come in the order of their tokens", "the order of the ring", "decode/parts.hpp",
    "(seen - least(h.window, seen) + slot) % h.window", "slot % h.window", "decode")
bug("A share of the budget refers to the prompt", "to what is cached", "decode/parts.hpp",
    "return prompt > 0 ? prompt : length;", "return prompt > length ? prompt : length;", "decode")
bug("Queries have the dims that a state was started for", "not compared", "cpu/decode/observe.hpp",
    "rows.entries.dims() != h.head_dim", "rows.entries.dims() == -1", "decode")
bug("States move along with the cache that they have seen", "not compared", "cpu/decode/side.hpp",
    "return detail::check_observed(states, cache);", "return {};", "decode")
bug("The rows of a restored state fit it", "lengths are taken as they are", "decode/state.hpp",
    "p.lengths[r] > least(p.header->capacity, p.seen[r])", "p.lengths[r] > most_slots", "decode")
bug("A state that was cut short is refused", "its size is not compared", "decode/state.hpp",
    "if (bytes_.size() < needed) return", "if (bytes_.size() < 0) return", "decode")

# The files that are tuned for speed, last

bug("What a row does not see weighs nothing", "> for >=", "cpu/detail/attention_columns.hpp",
    "if (slot + j >= visible[r])", "if (slot + j > visible[r])", "score")
bug("Rows that only fill a packet weigh nothing", "padding is forgotten", "cpu/detail/attention_operands.hpp",
    "to.weight[r] = padding ? 0.0F : ", "to.weight[r] = ", "score")
bug("The threshold is exact, however long the search", "it gives up after 3 rounds", "cpu/detail/threshold.hpp",
    "while (!search.done()) search.go_on(each);",
    "for (index_t round = 0; round < 3 && !search.done(); ++round) search.go_on(each);", "select")
bug("A list that is too short is not searched", "it is", "cpu/detail/threshold.hpp",
    "listable_ = (at_low_ - at_high_) / 4, list = false;", "listable_ = (at_low_ - at_high_) / 4;",
    "select")
bug("A list is searched only if the threshold lies in it", "whatever it holds", "cpu/detail/threshold.hpp",
    "if (!take(tried) || !list) return;", "take(tried);\n    if (!list) return;", "select")
bug("What is only counted is not listed", "the list is searched all the same", "cpu/detail/threshold.hpp",
    "if (!take(tried) || !list) return;", "if (!take(tried)) return;\n    list = true;", "select")
bug("Nothing is listed where there is no room for it", "up to the end", "cpu/detail/listed_keys.hpp",
    "return room - scan_block - spill;", "return room;", "select")
bug("What is listed lies below the upper of two keys", "or above", "cpu/detail/listed_keys.hpp",
    "between |= is_below & ~(k < lower)", "between |= ~(k < lower)", "select")
bug("NaN is below every number, also where scores are compared by their bits", "the lowest NaN is above",
    "cpu/detail/scan.hpp", "up = 0x7fffff;", "up = 0x7ffffe;", "select")
bug("Bits of scores are compared only with keys of positive ones", "with any", "cpu/detail/scan.hpp",
    "if (least_key > 0 && greatest_key <= infinite_key)", "if (greatest_key <= infinite_key)", "select")
bug("The last block of a row is filled up with what never stays", "with its first score", "cpu/detail/scan.hpp",
    "last_ + scan_block, std::numeric_limits<float>::quiet_NaN());", "last_ + scan_block, scores[0]);", "select")
bug("Ties fill up what certain slots leave", "a key with too many above it counts as certain",
    "cpu/detail/threshold.hpp", "const bool above = at_upper > total_,", "const bool above = at_upper > total_ + 1,", "select")
bug("Slots of a mask are those of all its bytes", "the lowest byte's", "cpu/detail/bits.hpp", "slots += first + bit;",
    "slots += first;", "select")
bug("Equal scores go to the smaller slot", "bits are met from the top", "cpu/detail/bits.hpp",
    "for (; mask != 0; mask &= mask - 1) f(static_cast<index_t>(std::countr_zero(mask)));",
    "for (; mask != 0; mask &= ~(0x80000000u >> std::countl_zero(mask))) f(31 - std::countl_zero(mask));", "select")
bug("As many equal scores stay as the budget has room for", "--x for x--", "cpu/select/select.hpp",
    "if (ties-- > 0)", "if (--ties > 0)", "select")
bug("Sinks are outside the candidates", "their scores compete", "cpu/select/select.hpp",
    "const float* const of = scores.data + kept.sinks;", "const float* const of = scores.data;", "select")
bug("A row takes the joint threshold only where that gives it what it keeps", "always", "cpu/budget/adaptive.hpp",
    "if (share == above[i] || takes_ties)", "if (true)", "budget")
bug("A row takes ties of the joint threshold only where there are ties", "also those far below it",
    "cpu/budget/adaptive.hpp", "joint.ties > 0 && above[i] < share", "above[i] < share", "budget")
bug("Retained slots are in order, recent ones last", "the recent ones directly behind the sinks", "cpu/select/select.hpp",
    "keep(last, length, retained + kept.sinks + free_budget);", "keep(last, length, retained + kept.sinks);", "select")
bug("Compaction reads every entry before it is overwritten", "from the back", "cpu/detail/copy_entry.hpp",
    "copy_slot(from, to, row, retained[k], k, where);",
    "{\n      const index_t back = static_cast<index_t>(retained.size()) - 1 - (k - first);\n"
    "      copy_slot(from, to, row, retained[back], back, where);\n    }",
    "compact")
bug("What goes past the caches is all of an entry", "the last piece stays", "cpu/detail/copy_entry.hpp",
    "i < bytes / sizeof(__m128i)", "i + 1 < bytes / sizeof(__m128i)", "compact")

# Kernels

on_select, on_score, on_attention = "kernels:cuda/select", "kernels:cuda/score", "kernels:cuda/attention"
on_warpgroups, on_stream = (f"{on_attention}:*{which}*" for which in ("warpgroups feed", "stream past"))
on_compact, on_ranks, on_functions = "kernels:cuda/compact", "kernels:cuda/ranks", "kernels:cuda/functions"

bug("Sums over a block count every warp below", "the own warp's", "cuda/detail/block.hpp",
    "warps[0][t] = warp < t / warp_threads ?", "warps[0][t] = warp <= t / warp_threads ?", on_select)
bug("A sum over a block is read when all warps have written theirs", "a missing barrier", "cuda/detail/block.hpp",
    "of_warps.store(t, t / warp_threads, sum[t]);\n  });\n  b.sync();", "of_warps.store(t, t / warp_threads, sum[t]);\n  });",
    on_select)
bug("What lies before a thread does not count the thread", "inclusive", "cuda/detail/block.hpp",
    "before[t] = warps[0][t] + sum[t] - x[t];", "before[t] = warps[0][t] + sum[t];", on_select)
bug("A reduction leaves its memory free for the next", "a missing barrier", "cuda/detail/block.hpp",
    "x[t] = all;\n  });\n  b.sync();", "x[t] = all;\n  });", on_functions)
bug("The digits of a score cover all its bits, once", "wrong shift", "cuda/detail/digits.hpp",
    "round == 1 ? digit{10, 11}", "round == 1 ? digit{11, 11}", on_select)
bug("A digit is counted among scores that share those before it", "among all", "cuda/detail/digits.hpp",
    "return ((key ^ prefix) & higher) == 0;", "return ((key ^ prefix) & higher) == 0 || prefix != 1;", on_select)
bug("Keys around a row are not counted with it", "they are", "cuda/detail/digits.hpp", "-row.absent()", "0", on_select)
bug("Keys in shared memory are those of the row", "of the row before", "cuda/detail/row_keys.hpp",
    "return room_->holds == scores_ && room_->count == count_;", "return room_->holds != nullptr;", on_select)
bug("Every histogram starts at zero", "only the first", "cuda/detail/digits.hpp",
    "for (index_t i = t; i < radix_bins; i += b.threads())", "for (index_t i = t; i < radix_bins && d.shift == 21; i += b.threads())",
    on_select)
bug("The threshold's digit is the one that reaches the budget", "> for >=", "cuda/detail/digits.hpp",
    "if (above >= wanted || reached < wanted) return;", "if (above >= wanted || reached <= wanted) return;", on_select)
bug("What one thread found is read by all after it", "a missing barrier", "cuda/detail/digits.hpp",
    "    b.sync();\n    auto bin = b", "    auto bin = b", on_select)
bug("Every bin has a thread, however many there are", "rounded down", "cuda/detail/digits.hpp",
    "return Bins - 1 - thread * ((Bins + threads - 1) / threads);", "return Bins - 1 - thread * (Bins / threads);",
    on_select)
bug("As many equal scores stay on the device as the budget has room for", "<= for <", "cuda/select/select.hpp",
    "if (!ties_here || ties < limit.ties)", "if (!ties_here || ties <= limit.ties)", on_select)
bug("Retained slots lie behind those before them", "ties that are evicted count", "cuda/select/select.hpp",
    "out[stays + least(ties, limit.ties)]", "out[stays + ties]", on_select)
bug("Bits of keys that stay are read when all are there", "a missing barrier", "cuda/select/select.hpp",
    "static_cast<index_t>(tie << shift));\n      }\n    });\n    b.sync();",
    "static_cast<index_t>(tie << shift));\n      }\n    });", on_select)
bug("Keys before a row do not tie with its own", "they do", "cuda/select/select.hpp",
    "if (start + four == 0) tie &= ~0u << row.before();", "", on_select)
bug("Keys that a pass leaves in shared memory are its row's", "the row before is still named", "cuda/detail/row_keys.hpp",
    "room_->holds = scores_;", "if (room_->holds == nullptr) room_->holds = scores_;", on_select)
bug("Copies have arrived before they become keys", "nobody waits", "cuda/detail/row_keys.hpp",
    "if (!known_before) b.copies_done();", "", on_select)
bug("Listed keys are those of one row", "of the row before", "cuda/detail/row_keys.hpp",
    "if (!known()) room_->listed = -1;", "", on_select)
bug("A list serves only searches whose keys it has", "any", "cuda/detail/row_keys.hpp",
    "known() && (key ^ room_->list_key) >> list_shift == 0 ?", "known() ?", on_select)
bug("Digits counted for a pool serve a row's search as long as it finds the same", "always", "cuda/detail/digits.hpp",
    "return reached != nullptr && d.candidate(key, prefix);", "return reached != nullptr;", on_select)
bug("A row whose budget is impossible is kept whole", "what the rule gives", "cuda/select/select.hpp",
    "return p.possible() ? p.alone() : p.length;", "return p.alone();", on_select)
bug("Slots for which there is no room are not written", "off by one", "cuda/select/select.hpp",
    "if (first + kept > task.slots_room) return;", "if (first + kept > task.slots_room + 1) return;", on_select)
bug("The lowest key stands for NaN", "for -0", "cuda/select/receipt.hpp",
    "if (number == 0x80000000u) return not_a_number();", "", on_functions)
bug("A receipt's threshold is that of evictable slots", "of all", "cuda/select/receipt.hpp",
    "i >= plan.kept.sinks && i < kept - plan.kept.recent", "i < kept", on_select)
bug("Counts of two rounds have memory of their own", "of one", "cuda/budget/across_ranks.hpp",
    "return 2 * rows * (digit_bins + 1);", "return rows * (digit_bins + 1);", on_functions)
bug("A page belongs to one (layer, sequence)", "layers as close as sequences", "view/paged.hpp",
    "static_cast<offset_t>(row.layer) * seqs + row.seq;", "static_cast<offset_t>(row.layer) + row.seq;", on_functions)
bug("Pages are as long as the heads of a block", "one head", "view/paged.hpp",
    "p.block = p.head * heads;", "p.block = p.head;", on_functions)
bug("Pieces of a workspace do not overlap", "rounded down", "core/workspace.hpp",
    "return (bytes + step - 1) / step * step;", "return bytes / step * step;", on_functions)
bug("Blocks of a team see each other's counts", "the team does not wait", "cuda/budget/share.hpp",
    "    b.team_sync();\n    const auto stay", "    b.sync();\n    const auto stay", on_select)
bug("A block gives what a mixture leaves to the largest remainders", "> and >=", "cuda/budget/split.hpp",
    "if (key(t, i) > limit.key ||", "if (key(t, i) >= limit.key ||", on_select)
bug("A block gives a full row no more", "what the others get", "cuda/budget/split.hpp", "least(spare(i), each)", "each", on_select)
bug("A row takes the joint threshold only where it divides what the row keeps", "floors are forgotten",
    "cuda/budget/share.hpp", "if (ties >= 0 && ties <= counts[i].equal)", "if (ties >= 0)", on_select)
bug("A round's counts do not touch those of the round before", "one memory", "cuda/detail/digits.hpp",
    "return (round * rows + row) * (radix_bins + 1) + bin;", "return (0 * round * rows + row) * (radix_bins + 1) + bin;",
    on_select)
bug("Of equal remainders a block gives to the first rows", "to the last", "cuda/budget/split.hpp",
    "(other == mine && i < t)", "(other == mine && i > t)", on_select)
bug("The joint search on the device counts a floor as stays", "the floor is forgotten", "cuda/budget/share.hpp",
    "greatest(floors[i], reached.load(t, at(round, i, at_bin)));", "reached.load(t, at(round, i, at_bin));", on_select)
bug("What lies above the digit found is carried to the next", "the digit itself too", "cuda/budget/share.hpp",
    "reached.load(t, place(round - 1, last_bin + 1)) : 0;", "reached.load(t, place(round - 1, last_bin)) : 0;", on_select)
bug("A rank reports its heads at their place", "at the front", "cuda/budget/across_ranks.hpp",
    "const index_t i = head - place.first_kv_head;", "const index_t i = head;", on_ranks)
bug("Ranks search with all digits that were found", "only the last", "cuda/budget/across_ranks.hpp",
    "round > 0 ? prefixes[(round - 1) * pools] : 0;", "round > 9 ? prefixes[(round - 1) * pools] : 0;", on_ranks)
bug("Where one rank refuses, the others keep every row", "one is not enough", "cuda/budget/across_ranks.hpp",
    "* heads * head_numbers] > 0;", "* heads * head_numbers] > 1;", on_ranks)
bug("A rank that takes part says that it does not refuse", "what the memory held", "cuda/budget/across_ranks.hpp",
    "if (pool == 0 && t == 0) memory.heads", "if (pool < 0 && t == 0) memory.heads", on_ranks)
bug("Wrong sums keep no slots that a row does not have", "the budget is not clamped", "cuda/budget/across_ranks.hpp",
    "greatest(0, least(share[place.first_kv_head + i], p.room()))", "share[place.first_kv_head + i]", on_ranks)
bug("The histogram of a rank has the floors of its rows", "the floor is forgotten", "cuda/budget/across_ranks.hpp",
    "stay += greatest(floors[i], reached.load(t, at(round, i, bin)));", "stay += reached.load(t, at(round, i, bin));", on_ranks)
bug("A row is no longer than the host said", "the length as it is", "cuda/detail/bounded.hpp",
    "greatest(1, least(Cache::length(row), longest))", "greatest(1, Cache::length(row))", on_functions)
bug("A row without slots is laid out as one of a slot", "0 for 1", "cuda/detail/bounded.hpp",
    "greatest(1, least(Cache::length(row), longest))", "greatest(0, least(Cache::length(row), longest))", on_functions)
bug("A lane holds the fragment of its rows", "two words swapped", "cuda/score/mma_products.hpp",
    "{{u.x[0], l.x[0], u.x[1], l.x[1]}}", "{{u.x[0], u.x[1], l.x[0], l.x[1]}}", on_attention)
bug("Dims beyond the last 32 go to the lanes in turn", "all from the first lane's", "cuda/score/mma_products.hpp",
    "return 32 * j + (32 * j + 32 <= Dims ? thread % 4 : thread % 4 / 2) * 8;",
    "return 32 * j + (32 * j + 32 <= Dims ? thread % 4 : 0) * 8;", on_attention)
bug("Products start at zero", "the sums of the step before", "cuda/score/mma_products.hpp",
    "      b.each([&](int t) { sums.clear(t); });\n      KVEVICT_UNROLLED", "      KVEVICT_UNROLLED", on_attention)
bug("Queries that need all their bits are multiplied in fp32", "all are taken to be short",
    "cuda/score/general_products.hpp", "return b.uniform(mask) == 0;", "return b.uniform(mask) >= 0;", on_attention)
bug("A lane holds the fragments of its four dims", "two words swapped", "cuda/score/general_products.hpp",
    "rows[k / 2][e / 2][t].x[k % 2 + e % 2 * 2]", "rows[k / 2][e / 2][t].x[k % 2 * 2 + e % 2]", on_attention)
bug("Dims behind the last are zeros", "those of the next key", "cuda/detail/entry_elements.hpp",
    "if (dim + e < end) out.x[e] = of(dim + e);", "out.x[e] = of(dim + e);", on_attention)
bug("A slot receives nothing from rows that do not see it", "<= for <", "cuda/score/column_sums.hpp",
    "const bool visible = slot + slot_of_thread(t, k) < c.visible;", "const bool visible = slot + slot_of_thread(t, k) <= c.visible;",
    on_attention)
bug("Four lanes add up what they have of a slot", "two of them", "cuda/score/column_sums.hpp",
    "for (int lanes = 1; lanes < 4; lanes *= 2)", "for (int lanes = 1; lanes < 2; lanes *= 2)", on_attention)
bug("The mean over the rows that see a slot, on the device", "over all rows", "cuda/score/column_sums.hpp",
    "least(row.rows, row.seen - task.positions_of_row(row.id)(slot))", "row.rows", on_attention)
bug("No slot behind the row is written", "off by one", "cuda/score/column_sums.hpp",
    "if (at < row.length)", "if (at <= row.length)", on_attention)
bug("A log-sum-exp has the base that it says", "always e", "cuda/score/attention_task.hpp",
    "log_sum_exp.base == log_base::two ? given : given * log2_of_e", "given * log2_of_e", on_attention)
bug("Padding between the heads of a group weighs nothing", "off by one", "cuda/score/attention_task.hpp",
    "if (at.head >= group_size || at.i >= r.rows) return {0, 0, 0, 0};",
    "if (at.head >= group_size || at.i > r.rows) return {0, 0, 0, 0};",
    on_attention)
bug("Sums that are joined are in units of the same maximum", "of the older one", "cuda/score/step_softmax.hpp",
    "mass = mass * exp2_fast(peak - top) +", "mass = mass +", on_attention)
bug("A softmax has the parts of all blocks", "all but one", "cuda/score/attention.hpp",
    "join_parts(task.parts, row_index, c, task.parts.parts)", "join_parts(task.parts, row_index, c, task.parts.parts - 1)",
    on_attention)
bug("Every warp has maxima of its own until all tiles have been seen", "one for all", "cuda/score/attention.hpp",
    "const offset_t at = t / warp_threads * Products::columns + from + softmax.column(t);",
    "const offset_t at = from + softmax.column(t);", on_attention)
bug("Queries are held before they are multiplied", "a missing barrier", "cuda/score/attention.hpp",
    "        b.sync();\n        held = first;", "        held = first;", on_attention)
bug("Warpgroups multiply all rows of keys with the dims of their own", "two dims swapped",
    "cuda/score/wgmma_products.hpp", "4 * (lane / 16 ^ lane % 8)", "4 * (1 - lane / 16 ^ lane % 8)", on_warpgroups)
bug("Copies ahead have arrived before they are read", "a warp does not wait for its lanes",
    "cuda/score/wgmma_products.hpp", "      b.copies_done();\n      b.sync_warp();", "      b.copies_done();", on_warpgroups)
bug("Warpgroups find the columns of a step where they lie", "the dims of others", "cuda/score/wgmma_products.hpp",
    "f % 4 * 2));", "f % 2 * 2));", on_warpgroups)
bug("Pieces of a column lie where wgmma looks for them", "without the swizzle", "cuda/detail/warpgroup.hpp",
    "(piece ^ column % 8)", "piece", on_warpgroups)
bug("Query rows that are equally far apart are copied one after another", "a step too many", "cuda/score/wgmma_products.hpp",
    "query += from.layout.slot * queries_at_once;", "query += from.layout.slot * (queries_at_once + 1);", on_warpgroups)
bug("A stage of the ring is read when its copies have arrived", "of the round before", "cuda/score/attention_stream.hpp",
    "b.wait(whole, stage, number / stages);", "b.wait(whole, stage, 1 - number / stages);", on_stream)
bug("A stage of the ring is written when everybody has read it", "one stage too near", "cuda/score/attention_stream.hpp",
    "later = (number + ahead) % stages;", "later = (number + 1) % stages;", on_stream)
bug("Copies are shown to wgmma before it multiplies", "a missing fence", "cuda/score/attention_stream.hpp",
    "    b.copies_done();\n    b.wgmma_fence_stores();\n", "    b.copies_done();\n", on_stream)
bug("KeyDiff's anchor has the keys of all stretches", "all but the first", "cuda/score/keys.hpp",
    "n = t % warp_threads / dims_of_warp; n < stretches;", "n = t % warp_threads / dims_of_warp + 1; n < stretches;", on_score)
bug("KeyDiff's sums have no slot behind the row", "the last one again", "cuda/score/keys.hpp",
    "const bool is_slot = slot_of(t, s) < lanes.length;", "const bool is_slot = slot_of(t, s) < lanes.length + 1;", on_score)
bug("KeyDiff's sums are scaled by what all dims of a key give", "a missing barrier", "cuda/score/keys.hpp",
    "if (piece != 0) b.sync();", "", on_score)
bug("Passes wait for each other where one block runs them", "a missing barrier", "cuda/score/slot_passes.hpp",
    "((Passes::run(b, in, extent, row, 0, 1), b.sync()), ...);", "(Passes::run(b, in, extent, row, 0, 1), ...);",
    "kernels_decode")
bug("Blocks that share a row have different slots of it", "all have the same", "cuda/score/slot_entries.hpp",
    "start += parts * of_block)", "start += of_block)", on_score)
bug("Lanes load 16 bytes only where all of an entry lies for it", "the last dims are forgotten", "cuda/score/slot_entries.hpp",
    "if (dense_dims(entries) && in_pieces_of(entries, together))", "if (dense_dims(entries))", on_score)
bug("The value prior's largest norm is the row's", "the thread's", "cuda/score/prior.hpp",
    "peak = reduce_block(b, peak, p.shared.peaks, [](float x, float y) { return greatest(x, y); });", "b.sync();", on_score)
bug("Pooling reads what was there before it wrote", "a missing barrier", "cuda/score/pool.hpp",
    "p.write(before, [&](int t, index_t j) { return scores.load(t, j); });\n    p.b.sync();",
    "p.write(before, [&](int t, index_t j) { return scores.load(t, j); });", on_score)
bug("A maximum over a window passes over NaN", "NaN stays", "cuda/score/pool.hpp",
    "if (x > best || best != best) best = x;", "if (x > best) best = x;", on_score)
bug("A draw spares the first of equal scores, and no more", "one more", "cuda/score/position.hpp",
    "(key == limit.key && j < last_tie)", "(key == limit.key && j <= last_tie)", on_score)
bug("Columns of a group meet as they are written", "the first is forgotten", "cuda/score/columns.hpp",
    "all = from_head == 0 ? x", "all = from_head <= 1 ? x", "kernels:cuda/given")
bug("The group is reduced by all its heads, on the device", "the last head is forgotten", "cuda/score/kernel.hpp",
    "b, length, heads, 0.0F,", "b, length, greatest(1, heads - 1), 0.0F,", on_score)
bug("No piece of an entry lies behind its end", "off by one", "cuda/compact/pieces.hpp",
    "if (p >= last_piece) return;", "if (p > last_piece) return;", on_compact)
bug("A thread without an entry reads the last one", "the one behind it", "cuda/compact/pieces.hpp",
    "sources[least<offset_t>(entry_of(t, start, i), count - 1)];", "sources[least<offset_t>(entry_of(t, start, i), count)];", on_compact)
bug("A selection moves only where it had room", "off by one", "cuda/compact/pieces.hpp",
    "offsets[row + 1] <= room;", "offsets[row + 1] <= room + 1;", on_compact)
bug("A chunk is read before it is written", "a missing barrier", "cuda/compact/in_place.hpp",
    "      entries.read(start, first);\n      b.sync();\n", "      entries.read(start, first);\n", on_compact)
bug("Only what stays where it is is left out", "what begins where it is", "cuda/compact/in_place.hpp",
    "if (entries.stay(least<offset_t>(start + step, entries.count) - 1)) continue;",
    "if (entries.stay(start)) continue;", on_compact)
bug("Blocks that share a row take turns", "all take all", "cuda/compact/pieces.hpp",
    "start += shares * step", "start += step", on_compact)
bug("A target without room keeps its row", "off by one", "cuda/compact/gather.hpp",
    "return count <= m.target().layout.capacity(row);", "return count - 1 <= m.target().layout.capacity(row);", on_compact)
bug("A survivor lies at the new end or behind it", "> for >=", "cuda/compact/swap_fill.hpp",
    "found[t] = place[t] >= count ? 1 : 0;", "found[t] = place[t] > count ? 1 : 0;", on_compact)
bug("Holes of later stretches of a row lie behind the first", "at the front", "cuda/compact/swap_fill.hpp",
    "index_t at = all + before[t];", "index_t at = before[t];", on_compact)
bug("Kernels leave the order of slots to come as the CPU does", "left as it was", "cuda/compact/swap_fill.hpp",
    "index_t k = count + t; k < length", "index_t k = length + t; k < length", on_compact)
bug("A row without room for its selection keeps its order", "it becomes that of the slots", "cuda/compact/swap_fill.hpp",
    "task.kept.has(row.index) ? task.cache.length(row) : 0", "task.cache.length(row)", on_compact)
bug("The i-th survivor goes into the i-th hole", "into the last first", "cuda/compact/swap_fill.hpp",
    "if (moved) place[t] = b.template load<index_t>(t, to.holes + i);",
    "if (moved) place[t] = b.template load<index_t>(t, to.holes + least(holes, count) - 1 - i);",
    on_compact)
bug("Pages move in wide pieces only where every block starts at such a place", "blocks are not asked",
    "cuda/detail/alignment.hpp", "return l.block % n == 0 && l.layer", "return l.layer", on_functions)

on_decode, on_blocks = "kernels_decode", "kernels:cuda/blocks"

bug("A set of rows on the device is full by the average of its rows", "one slot too early", "cuda/decode/evict.hpp",
    "sum > static_cast<offset_t>(task.every - 1) * unit.count;", "sum >= static_cast<offset_t>(task.every - 1) * unit.count;",
    on_decode)
bug("Rows with slots that their state has not seen are left alone", "they are evicted", "cuda/decode/evict.hpp",
    "states[id.seq].length(id) != lengths[row]", "states[id.seq].length(id) > lengths[row]", on_decode)
bug("A step observes every row that it may evict", "every second", "cuda/decode/step.hpp", "i += b.team_size()",
    "i += 2 * b.team_size()", on_decode)
bug("Sums on the device are of each slot's own rows and later ones", "also of earlier ones", "cuda/decode/observe.hpp",
    "if (i < slot[k] - (n.length - n.rows) || slot[k] >= dims) continue;", "if (slot[k] >= dims) continue;",
    "kernels_decode:decode:*sums bit for bit*")
bug("States follow the retained slots", "positions stay", "cuda/decode/side.hpp",
    "slide_array(b, p.positions + at * capacity, retained, count);", "", on_decode)
bug("What a state remembers slides in chunks that wait", "a missing barrier", "cuda/decode/side.hpp",
    "held[t] = b.template load<T>(t, array + retained[start + t]);\n    });\n    b.sync();",
    "held[t] = b.template load<T>(t, array + retained[start + t]);\n    });", on_decode)
bug("Angles beyond half a turn", "> for >=", "cuda/compact/turn.hpp", "quarter >= 2 ? -sine : sine", "quarter > 2 ? -sine : sine",
    on_compact)
bug("Freed ids are the last ones of a table row", "the first ones", "cuda/compact/blocks.hpp",
    "task.layout.block_table[table * offset_t{task.layout.max_blocks} + from + i]",
    "task.layout.block_table[table * offset_t{task.layout.max_blocks} + i]", on_blocks)
bug("Pools before a team's own come before it in the selection", "its own too", "cuda/select/pool.hpp",
    "for (index_t p = t; p < pool; p += b.threads()) own[t] += retained_of_pool(task, p);",
    "for (index_t p = t; p <= pool; p += b.threads()) own[t] += retained_of_pool(task, p);", on_select)

# Launches

bug("A launch has clusters only where device and code have them", "a decode step is not asked for",
    "cuda/decode.cuh", "if (const status s = team_size_of<room_threads<Room>, Body>(on, wanted, team); !s.ok()) return s;",
    "team = wanted;", "launches")
bug("Clusters are asked of the device, not of the code alone", "the device is not asked", "cuda/detail/launch.cuh",
    "s.ok() && clusters != 0 && attributes", "s.ok() && attributes", "launches")
bug("A launch goes to the device of its stream", "the current device stays", "cuda/detail/launch.cuh",
    "if (error == cudaSuccess) error = static_cast<cudaError_t>(push(context));", "", "launches")
bug("After a call the caller's device is current again", "it is forgotten", "cuda/detail/launch.cuh",
    "if (leave_ != nullptr) leave_(&left);", "if (leave_ != nullptr && device_ < 0) leave_(&left);", "launches")
bug("Shared memory beyond what every device has is asked for", "a zero too many", "cuda/detail/launch.cuh",
    "if (bytes <= 48 * 1024) return {};", "if (bytes <= 480 * 1024) return {};", "launches")
