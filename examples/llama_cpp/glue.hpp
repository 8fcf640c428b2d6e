// SPDX-License-Identifier: MIT
#pragma once

#include <ggml.h>
#include <llama.h>

#include <cstdio>
#include <cstring>
#include <kvevict/cpu.hpp>
#include <kvevict/cpu/openmp.hpp>
#include <stdexcept>
#include <string>
#include <vector>

namespace hosting {

using namespace kvevict;

/// One sequence of a llama.cpp context under a policy, with one set of tokens for all layers and heads. To be made
/// before the context, whose parameters it completes. After each llama_decode, of at most n_ubatch tokens: `observe`.
/// To make room: `evict`. CPU only, no flash attention, an fp16 cache: queries are copied as they are computed, keys
/// and values are read where llama.cpp has them.
template <class Policy>
class sequence {
  // ---- the glue ----
  struct by_cell : strided {
    const index_t* cell_of;
    offset_t offset(const row_id& row, index_t s, index_t d) const { return strided::offset(row, cell_of[s], d); }
  };
  bool see(const ggml_tensor& t, bool ask) {  // each tensor before it is computed, then those asked for once they are
    std::size_t layer = 0;
    if (char part = 0; t.op == GGML_OP_SET_ROWS && std::sscanf(t.name, "cache_%c_l%zu", &part, &layer) == 2) {
      (part == 'k' ? keys_ : values_)[layer] = static_cast<const half*>(t.data);
      const auto* const to = static_cast<const std::int64_t*>(t.src[1]->data);
      if (part == 'k' && layer == 0) cell_of_.insert(cell_of_.end(), to, to + t.src[1]->ne[0]);
    }
    if (t.op != GGML_OP_ROPE || std::sscanf(t.name, "Qcur-%zu", &layer) != 1) return false;
    const auto count = static_cast<std::size_t>(ggml_nelements(&t));
    queries_.resize(keys_.size() * count);
    if (!ask) std::memcpy(queries_.data() + layer * count, t.data, ggml_nbytes(&t));
    return true;
  }
  [[nodiscard]] auto seen() {
    const auto& [shape, cells, query_heads, dims, prompt, number] = extent_;
    const strided key{.layer = keys_[1] - keys_[0], .head = dims, .slot = dims * shape.kv_heads};
    if (keys_.back() - keys_[0] != key.layer * (shape.layers - 1)) throw std::runtime_error("layers lie unequally far");
    const strided value{.layer = values_[1] - values_[0], .head = offset_t{dims} * cells, .slot = 1, .dim = cells};
    const auto rows = static_cast<index_t>(queries_.size() / keys_.size()) / (query_heads * dims);
    return inputs{cache{shape, held(), entries{keys_[0], by_cell{key, cell_of_.data()}, dims},
                        entries{values_[0], by_cell{value, cell_of_.data()}, dims}},
                  query_view{entries{queries_.data(), nhd(1, query_heads, rows, dims), dims}, query_heads, rows}};
  }

 public:
  sequence(const Policy& policy, token_set how, const llama_model* model, llama_context_params& params)
      : policy_(policy), how_(how), extent_{.shape = {llama_model_n_layer(model), 1, llama_model_n_head_kv(model)}} {
    extent_.capacity = extent_.prompt_length = static_cast<index_t>(params.n_ctx + 255) / 256 * 256;  // as llama.cpp
    extent_.query_heads = llama_model_n_head(model);
    extent_.head_dim = llama_model_n_embd(model) / extent_.query_heads;
    memory_.resize(cache_lines(state_bytes(policy_, extent_)));
    require(start(policy_, extent_, state()));
    params.cb_eval = [](ggml_tensor* t, bool ask, void* me) { return static_cast<sequence*>(me)->see(*t, ask); };
    params.cb_eval_user_data = this;
  }
  void observe() {
    require(kvevict::observe(on_, policy_, state(), seen(), room(workspace_bytes(on_, policy_, state(), seen()))));
  }
  void evict(llama_context* context) {
    const auto in = seen();
    std::vector<offset_t> ends(static_cast<std::size_t>(extent_.shape.rows()) + 1), all_ends(ends);
    std::vector<index_t> slots(ends.size() * cell_of_.size()), all(slots);
    require(kvevict::evict(on_, policy_, state(), in, {slots, ends}, room(workspace_bytes(on_, policy_, state(), in))));
    require(
        one_set(in.cache, {slots, ends}, how_, set_scope::sequence, {all, all_ends}, room(one_set_bytes(in.cache))));
    std::vector<index_t> kept(all.begin(), all.begin() + all_ends[1]);
    kept.back() = held() - 1;  // llama.cpp goes on behind the position of its newest cell, so that one stays
    const index_t* const position = state().positions({}).data;
    for (std::size_t slot = 0, next = 0; slot < cell_of_.size(); ++slot)
      if (slot == static_cast<std::size_t>(kept[next]))
        cell_of_[next++] = cell_of_[slot];
      else
        llama_memory_seq_rm(llama_get_memory(context), 0, position[slot], position[slot] + 1);
    cell_of_.resize(kept.size());
    for (index_t r = 0; r < extent_.shape.rows(); ++r) side(state()).retain(extent_.shape.row(r), kept);
  }
  // ---- end of glue ----

  [[nodiscard]] int held() const { return static_cast<int>(cell_of_.size()); }

 private:
  [[nodiscard]] decode_state<> state() { return decode_state<>{workspace_of(memory_)}; }
  [[nodiscard]] workspace room(offset_t bytes) {
    scratch_.resize(std::max(scratch_.size(), cache_lines(bytes)));
    return workspace_of(scratch_);
  }
  static void require(const status& s) {
    if (!s.ok()) throw std::runtime_error(std::string(s.argument) + ": " + s.sentence);
  }

  Policy policy_;
  token_set how_;
  cpu<openmp> on_{};
  sequence_extent extent_;
  std::vector<const half*> keys_ = std::vector<const half*>(static_cast<std::size_t>(extent_.shape.layers));
  std::vector<const half*> values_ = keys_;  ///< of each layer: where llama.cpp has them, [cell][kv_head][dim] ..
                                             ///< .. and, as flash attention is off, [kv_head][dim][cell]
  std::vector<index_t> cell_of_;             ///< of each slot, which are in the order of tokens
  std::vector<float> queries_;               ///< of the last tokens, [layers][tokens][query_heads][dims]
  std::vector<cache_line> memory_, scratch_;
};

}  // namespace hosting
