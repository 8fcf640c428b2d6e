// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include <attention.hpp>
#include <cmath>
#include <generate.hpp>

#include "small_model.hpp"

/// The parts of the engine beside naive loops, and the whole on a model of random weights that is made here.
namespace {

float distance(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  float worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(a[i] - b[i]));
  return worst;
}

}  // namespace

TEST_CASE("products with weights of either type, few rows and many") {
  for (const bool bf16 : {false, true}) {
    const int outputs = 211, inputs = 37;
    std::vector<float> weights = noise(std::size_t(outputs * inputs), 3);
    std::vector<std::uint16_t> narrow;
    for (float& x : weights) {
      narrow.push_back(kvevict::to_bfloat16(x).bits);
      if (bf16) x = kvevict::to_float(kvevict::bfloat16{narrow.back()});
    }
    file_tensor t{bf16 ? "BF16" : "F32", {outputs, inputs}};
    t.data =
        bf16 ? reinterpret_cast<const std::byte*>(narrow.data()) : reinterpret_cast<const std::byte*>(weights.data());
    const matrix w(t);
    for (const int rows : {1, 3, 40}) {
      const std::vector<float> x = noise(std::size_t(rows * inputs), 5);
      std::vector<float> y(std::size_t(rows * outputs));
      multiply(x.data(), rows, w, y.data());
      for (int r = 0; r < rows; ++r)
        for (int o = 0; o < outputs; ++o) {
          double sum = 0;
          for (int i = 0; i < inputs; ++i)
            sum += double(x[std::size_t(r * inputs + i)]) * weights[std::size_t(o * inputs + i)];
          REQUIRE(y[std::size_t(r * outputs + o)] == doctest::Approx(sum).epsilon(1e-4));
        }
    }
  }
}

TEST_CASE("attention over ragged rows, in tiles and in parts, is the softmax over what each token sees") {
  const int heads = 2, group = 3, dims = 8;
  for (const int tokens : {1, 5, 150}) {
    kv_memory cache(1, heads, dims, 2000);
    const int lengths[] = {tokens + 900, tokens + 3};
    for (int h = 0; h < heads; ++h) {
      cache.lengths(0)[h] = lengths[h];
      const auto k = noise(std::size_t(lengths[h] * dims), 10u + unsigned(h), 2),
                 v = noise(k.size(), 20u + unsigned(h));
      std::copy(k.begin(), k.end(), cache.keys(0, h));
      std::copy(v.begin(), v.end(), cache.values(0, h));
    }
    const std::vector<float> q = noise(std::size_t(tokens * heads * group * dims), 30, 2);
    std::vector<float> out(q.size()), lse(std::size_t(heads * group * tokens));
    attend(q.data(), tokens, heads * group, cache, 0, out.data(), lse.data());
    for (int t = 0; t < tokens; ++t)
      for (int head = 0; head < heads * group; ++head) {
        const int kv = head / group, seen = lengths[kv] - tokens + t + 1;
        std::vector<double> sum(std::size_t(dims), 0.0);
        double total = 0;
        for (int j = 0; j < seen; ++j) {
          double dot = 0;
          for (int d = 0; d < dims; ++d)
            dot += double(q[std::size_t((t * heads * group + head) * dims + d)]) * cache.keys(0, kv)[j * dims + d];
          const double weight = std::exp(dot / std::sqrt(double(dims)));
          total += weight;
          for (int d = 0; d < dims; ++d) sum[std::size_t(d)] += weight * cache.values(0, kv)[j * dims + d];
        }
        REQUIRE(lse[std::size_t(head * tokens + t)] == doctest::Approx(std::log(total)).epsilon(1e-5));
        for (int d = 0; d < dims; ++d)
          REQUIRE(out[std::size_t((t * heads * group + head) * dims + d)] ==
                  doctest::Approx(sum[std::size_t(d)] / total).epsilon(1e-3));
      }
  }
}

TEST_CASE("a cache occupies the pages of its slots, and gives back those of evicted ones") {
  kv_memory cache(3, 2, 64, 4096);
  CHECK(cache.resident_bytes() == 0);
  for (int l = 0; l < 3; ++l)
    for (int h = 0; h < 2; ++h) {
      cache.lengths(l)[h] = 1024;
      std::fill_n(cache.keys(l, h), 1024 * 64, 1.0F);
      std::fill_n(cache.values(l, h), 1024 * 64, 2.0F);
    }
  const std::int64_t row = 1024 * 64 * 4;
  CHECK(cache.resident_bytes() == 3 * 2 * 2 * row);
  cache.lengths(1)[0] = 16;
  cache.lengths(1)[1] = 0;
  cache.release(1);
  CHECK(cache.slots() == 4 * 1024 + 16);
  CHECK(cache.resident_bytes() == 2 * 2 * 2 * row + 2 * 16 * 64 * 4);
  CHECK(cache.keys(1, 0)[16 * 64 - 1] == 1.0F);
  CHECK(cache.keys(2, 1)[0] == 1.0F);
  kv_memory copied(3, 2, 64, 4096);
  copied.copy(cache);
  CHECK(copied.slots() == cache.slots());
  CHECK(copied.values(2, 1)[1024 * 64 - 1] == 2.0F);
  CHECK(copied.resident_bytes() == cache.resident_bytes());
}

TEST_CASE("a prompt at once, in pieces and token by token gives the same logits") {
  for (const bool bf16 : {false, true}) {
    const small_model files(bf16);
    const llama model(files.folder);
    const auto tokens = some_tokens(90);
    const auto run = [&](int piece) {
      kv_memory cache(files.layers, files.kv_heads, files.dims, 90);
      std::vector<float> logits;
      for (int at = 0; at < 90; at += piece)
        logits = model.forward({tokens.begin() + at, tokens.begin() + std::min(90, at + piece)}, at, cache, 1);
      return logits;
    };
    const std::vector<float> whole = run(90);
    CHECK(distance(run(32), whole) < 1e-4F);
    CHECK(distance(run(1), whole) < 1e-4F);
    CHECK(run(90) == whole);
    CHECK(distance(whole, std::vector<float>(whole.size(), 0)) > 0.1F);
  }
}

TEST_CASE("evicting nothing changes no bit, evicting something does, and memory goes down") {
  const small_model files;
  const llama model(files.folder);
  generation_task task;
  task.prompt = some_tokens(400);
  task.tokens = 20;
  const generation full = generate(model, task, {});
  REQUIRE(full.tokens.size() == 20);
  for (const char* policy : {"full", "snapkv", "ada_ahakv", "h2o", "tova"}) {
    task.policy = policy;
    task.budget = kvevict::percent(100);
    task.chunk = 150;
    CHECK(generate(model, task, {}).tokens == full.tokens);
    if (task.policy == "full") continue;
    task.budget = kvevict::percent(10);
    task.every = 4;
    const generation less = generate(model, task, {});
    CHECK(less.held_bytes < full.held_bytes);
    CHECK(less.peak_bytes < full.peak_bytes);
    task.every = -1;
  }
}

TEST_CASE("sequences of a batch give what each gives alone") {
  const small_model files;
  const llama model(files.folder);
  const std::vector<int> a = some_tokens(70), b = some_tokens(9), next{7, 8, 9};
  const auto fresh = [&] { return kv_memory(files.layers, files.kv_heads, files.dims, 80); };
  kv_memory a_alone = fresh(), b_alone = fresh(), a_beside = fresh(), b_beside = fresh();
  std::vector<float> alone = model.forward(a, 0, a_alone, 2);
  const std::vector<float> of_b = model.forward(b, 0, b_alone, 9);
  alone.insert(alone.end(), of_b.begin(), of_b.end());
  std::vector<std::pair<int, int>> seen;  // sequence and tokens, per layer
  const new_tokens both[] = {{a, 0, &a_beside, 2}, {b, 0, &b_beside, 9}};
  const auto look = [&](const layer_rows& rows) { seen.emplace_back(rows.sequence, rows.tokens); };
  const std::vector<float> beside = model.forward(both, look);
  REQUIRE(beside.size() == alone.size());
  for (std::size_t i = 0; i < alone.size(); ++i) CHECK(beside[i] == doctest::Approx(alone[i]).epsilon(1e-4));
  CHECK(seen == std::vector<std::pair<int, int>>{{0, 70}, {1, 9}, {0, 70}, {1, 9}});
  CHECK(*b_beside.lengths(1) == 9);
  // And on from there, at their own positions.
  const std::vector<float> a_next = model.forward(next, 70, a_alone, 1), b_next = model.forward(next, 9, b_alone, 1);
  const new_tokens on[] = {{next, 70, &a_beside, 1}, {next, 9, &b_beside, 1}};
  const std::vector<float> continued = model.forward(on);
  for (std::size_t i = 0; i < a_next.size(); ++i) {
    CHECK(continued[i] == doctest::Approx(a_next[i]).epsilon(1e-4));
    CHECK(continued[a_next.size() + i] == doctest::Approx(b_next[i]).epsilon(1e-4));
  }
}

TEST_CASE("drawn continuations repeat by their seed") {
  const small_model files;
  const llama model(files.folder);
  generation_task task;
  task.prompt = some_tokens(20);
  task.tokens = 30;
  task.temperature = 2;
  const auto first = generate(model, task, {}).tokens;
  CHECK(generate(model, task, {}).tokens == first);
  task.seed = 2;
  CHECK(generate(model, task, {}).tokens != first);
  task.temperature = 0;
  task.end_token = generate(model, task, {}).tokens[3];
  const auto ended = generate(model, task, {}).tokens;
  CHECK(ended.back() == task.end_token);
  CHECK(ended.size() <= 4);
}

TEST_CASE("what is wrong with a model or a task is said") {
  const auto problem = [](const auto& f) -> std::string {
    try {
      f();
    } catch (const std::exception& error) {
      return error.what();
    }
    return "";
  };
  const auto has = [](const std::string& text, const char* part) { return text.find(part) != std::string::npos; };
  const small_model files;
  const small_model cut(false, "model.layers.1.mlp.up_proj");
  CHECK(has(problem([&] { llama m(cut.folder); }), "model.layers.1.mlp.up_proj.weight is missing"));
  CHECK(has(problem([&] { llama m("/nowhere"); }), "config.json: cannot be opened"));
  const llama model(files.folder);
  generation_task task;
  CHECK(has(problem([&] { generate(model, task, {}); }), "no tokens"));
  task.prompt = {1, 2, small_model::vocabulary};
  CHECK(has(problem([&] { generate(model, task, {}); }), "token 50 is not in the vocabulary"));
  task.prompt = std::vector<int>(990, 1);
  CHECK(has(problem([&] { generate(model, task, {}); }), "made for 1000"));
  task.prompt = {1, 2, 3};
  task.policy = "snapkw";
  CHECK(has(problem([&] { generate(model, task, {}); }), "unknown policy 'snapkw'"));
  kv_memory small(files.layers, files.kv_heads, files.dims, 2);
  CHECK(has(problem([&] { model.forward({1, 2, 3}, 0, small, 1); }), "room for 2 slots per head, but 3"));
}
