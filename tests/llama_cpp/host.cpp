// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include <cmath>
#include <compare.hpp>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <kvevict/cpu.hpp>
#include <sstream>

/// An unpatched llama.cpp with the library as its guest, on the real model.
namespace {

llama_model* model() {
  static const auto loaded = load_model(KVEVICT_LLAMA_CPP_MODEL);
  return loaded.get();
}

std::vector<llama_token> text(std::size_t count) {
  std::stringstream all;
  for (const char* name : {"red-headed-league", "pride-and-prejudice", "alice"})
    all << std::ifstream(std::string(KVEVICT_DOCUMENTS) + "/" + name + ".txt").rdbuf() << "\n\n";
  std::vector<llama_token> tokens = tokenize(model(), all.str());
  REQUIRE(tokens.size() >= count);
  tokens.resize(count);
  return tokens;
}

int vocabulary() { return llama_vocab_n_tokens(llama_model_get_vocab(model())); }

std::vector<float> decode(hosted_context& context, const std::vector<llama_token>& tokens, int from, int count) {
  const float* const logits = context.decode(tokens.data() + from, count, count);
  return {logits, logits + std::ptrdiff_t{count} * vocabulary()};
}

std::string problem_of(const hosting_options& options, int tokens) {
  const auto some = text(static_cast<std::size_t>(tokens) + 1);
  return compare(model(), some, 1, {options}, {}).at(1).problem;
}

/// llama.cpp without the glue: its tensors are copied to plain arrays, [layers][tokens][heads][dims].
struct plain_context {
  static constexpr int layers = 30, query_heads = 9, kv_heads = 3, dims = 64;
  std::vector<std::vector<float>> queries{layers}, keys{layers}, values{layers};
  std::unique_ptr<llama_context, decltype(&llama_free)> context{nullptr, llama_free};

  explicit plain_context(int cells, int piece) {
    llama_context_params params = llama_context_default_params();
    params.n_ctx = static_cast<std::uint32_t>(cells);
    params.n_batch = params.n_ubatch = static_cast<std::uint32_t>(piece);
    params.n_threads = params.n_threads_batch = 2;
    params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    params.cb_eval = [](ggml_tensor* t, bool ask, void* me) { return static_cast<plain_context*>(me)->take(*t, ask); };
    params.cb_eval_user_data = this;
    context.reset(llama_init_from_model(model(), params));
  }
  bool take(const ggml_tensor& t, bool ask) {
    char part = 0;
    std::size_t layer = 0;
    if (std::sscanf(t.name, "%ccur-%zu", &part, &layer) != 2) return false;
    if (std::strchr(t.name, '(') != nullptr) return false;  // a view of it
    if (t.op != (part == 'V' ? GGML_OP_RESHAPE : GGML_OP_ROPE)) return false;
    const auto* const first = static_cast<const float*>(t.data);
    auto& to = (part == 'Q' ? queries : part == 'K' ? keys : values)[layer];
    if (!ask) to.insert(to.end(), first, first + ggml_nelements(&t));
    return true;
  }
  std::vector<float> decode(const std::vector<llama_token>& tokens, int from, int count) const {
    llama_batch batch = llama_batch_init(count, 0, 1);
    for (int i = 0; i < count; ++i) {
      batch.token[i] = tokens[static_cast<std::size_t>(from + i)];
      batch.pos[i] = from + i;
      batch.n_seq_id[i] = 1;
      batch.seq_id[i][0] = 0;
      batch.logits[i] = 1;
    }
    batch.n_tokens = count;
    REQUIRE(llama_decode(context.get(), batch) == 0);
    llama_batch_free(batch);
    const float* const logits = llama_get_logits(context.get());
    return {logits, logits + std::ptrdiff_t{count} * vocabulary()};
  }

  /// The slots that the policy keeps of the tokens so far: one call, on copies.
  template <class Policy>
  [[nodiscard]] std::vector<int> kept(const Policy& policy, kvevict::token_set how) const {
    using namespace kvevict;
    const index_t length = static_cast<index_t>(keys[0].size()) / (kv_heads * dims);
    const auto joined = [](const std::vector<std::vector<float>>& parts) {
      std::vector<float> all;
      for (const auto& part : parts) all.insert(all.end(), part.begin(), part.end());
      return all;
    };
    const auto halves = [&](const std::vector<std::vector<float>>& parts) {
      std::vector<half> all;
      for (const float x : joined(parts)) all.push_back(to_half(x));
      return all;
    };
    const std::vector<half> k = halves(keys), v = halves(values);
    const std::vector<float> q = joined(queries);
    const strided order = nhd(1, kv_heads, length, dims);
    const cache view{cache_shape{layers, 1, kv_heads}, length, entries{k.data(), order, dims},
                     entries{v.data(), order, dims}};
    const entries rows{q.data(), nhd(1, query_heads, length, dims), dims};
    const inputs in{view, query_view{rows, query_heads, length}};
    std::vector<index_t> slots(static_cast<std::size_t>(selection_capacity(policy, in))),
        common(static_cast<std::size_t>(layers * kv_heads * length));
    std::vector<offset_t> ends(layers * kv_heads + 1), common_ends(ends);
    std::vector<cache_line> scratch(cache_lines(std::max(workspace_bytes(cpu{}, policy, in), one_set_bytes(view))));
    REQUIRE(evict(cpu{}, policy, in, {slots, ends}, workspace_of(scratch)).ok());
    REQUIRE(one_set(view, {slots, ends}, how, set_scope::sequence, {common, common_ends}, workspace_of(scratch)).ok());
    return {common.begin(), common.begin() + common_ends[1]};
  }
};

/// That the glue evicts what one call on copies of llama.cpp's tensors says: the same logits, bit by bit, as a context
/// whose other positions are removed by hand.
template <class Policy>
void check_eviction(const std::string& spec, const Policy& policy, kvevict::token_set how) {
  CAPTURE(spec);
  const auto tokens = text(320);
  const hosting_options options{.policy = spec, .budget = policy.budget, .how = how, .cells = 256, .piece = 64};
  hosted_context hosted(model(), options);
  plain_context plain(256, 64);
  for (int at = 0; at < 256; at += 64) CHECK(decode(hosted, tokens, at, 64) == plain.decode(tokens, at, 64));
  const std::vector<int> kept = plain.kept(policy, how);
  CHECK(kept.size() < 192);
  CHECK(kept.back() == 255);
  for (int position = 0, next = 0; position < 256; ++position)
    if (kept[static_cast<std::size_t>(next)] == position)
      ++next;
    else
      llama_memory_seq_rm(llama_get_memory(plain.context.get()), 0, position, position + 1);
  CHECK(decode(hosted, tokens, 256, 64) == plain.decode(tokens, 256, 64));
  CHECK(hosted.held() == static_cast<int>(kept.size()) + 64);
  CHECK(hosted.bytes_held() == llama_state_seq_get_size(plain.context.get(), 0));
}

}  // namespace

TEST_CASE("evicting nothing changes no bit") {
  const auto tokens = text(128);
  const hosting_options nothing{.cells = 256};
  hosted_context untouched(model(), nothing);
  std::vector<std::vector<float>> expected;
  for (int at = 0; at < 128; at += 64) expected.push_back(decode(untouched, tokens, at, 64));
  for (const char* policy : {"full", "h2o", "snapkv"}) {
    hosted_context hosted(model(), {.policy = policy, .budget = kvevict::slots(128), .cells = 256});
    for (int at = 0; at < 128; at += 64)
      CHECK(decode(hosted, tokens, at, 64) == expected[static_cast<std::size_t>(at / 64)]);
    CHECK(hosted.held() == 128);
    CHECK(hosted.bytes_held() == untouched.bytes_held());
  }
}

TEST_CASE("the policy reads llama.cpp's own keys, values and queries, and its cells are freed") {
  using namespace kvevict;
  check_eviction("keydiff:recent=1", keydiff{.budget = slots(150), .recent = 1}, token_set::vote);
  check_eviction("snapkv", snapkv<>{.budget = slots(36)}, token_set::union_of);
  check_eviction("ahakv", ahakv<>{.budget = slots(100)}, token_set::vote);
}

TEST_CASE("6000 tokens run in 512 cells") {
  const auto tokens = text(6000);
  hosted_context hosted(model(), {.policy = "streaming_llm", .budget = kvevict::percent(50), .cells = 512});
  for (int at = 0; at < 5952; at += 64) hosted.decode(tokens.data() + at, 64, 0);
  for (const float logit : decode(hosted, tokens, 5952, 48)) REQUIRE(std::isfinite(logit));
  CHECK(hosted.most_held() == 512);
  CHECK(hosted.bytes_held() < 513U * 30 * 2 * 3 * 64 * 2 + 20000);
}

TEST_CASE("perplexity in 512 cells is near that of the full cache") {
  const auto tokens = text(1201);
  const auto run = [](const char* policy) {
    return hosting_options{.policy = policy, .budget = kvevict::slots(448), .cells = 512};
  };
  int steps = 0;
  const auto runs = compare(model(), tokens, 400, {run("h2o")}, [&](int, const auto&) { ++steps; });
  REQUIRE(runs.size() == 2);
  CHECK(steps == 19);
  CHECK(std::abs(runs[0].mean.kld) < 1e-6);
  CHECK(runs[0].mean.agreement == 1);
  for (const hosted_run& r : runs) {
    CAPTURE(r.options.policy);
    CHECK(r.problem.empty());
    CHECK(std::exp(r.mean.nll - runs[0].mean.nll) < 1.2);
    CHECK(std::exp(r.mean.nll - runs[0].mean.nll) > 0.9);
    CHECK(std::exp(r.mean.nll) < 40);
    MESSAGE(r.options.policy << ": perplexity " << std::exp(r.mean.nll) << ", KLD " << r.mean.kld);
  }
  CHECK(runs[1].mean.kld > 1e-3);
  CHECK(runs[1].most_held <= 512);
}

TEST_CASE("what cannot work is said") {
  CHECK(check_hosted_policy("snapkw").find("unknown policy 'snapkw'") == 0);
  CHECK(check_hosted_policy("ada_snapkv:window=16").find("snapkv:window=16 can run") != std::string::npos);
  CHECK(check_hosted_policy("pyramidkv").find("budgets of their own") != std::string::npos);
  CHECK(check_hosted_policy("snapkv:window=16").empty());
  using kvevict::slots;
  CHECK(problem_of({.policy = "h2o", .budget = slots(500), .cells = 512}, 1).find("do not fit 512 cells") !=
        std::string::npos);
  CHECK(problem_of({.policy = "full", .cells = 256}, 400).find("no room for 64 more in 256 cells") !=
        std::string::npos);
  CHECK(problem_of({.policy = "snapkv", .budget = slots(20), .cells = 256}, 300).find("budget") != std::string::npos);
  CHECK(problem_of({.policy = "snapkv", .budget = slots(190), .how = kvevict::token_set::union_of, .cells = 256}, 300)
            .find("voting") != std::string::npos);
}
