// SPDX-License-Identifier: MIT
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <Eigen/Core>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <generate.hpp>

/// The engine with the real model. Without one (./dev model) the program says so and skips.
namespace {

nlohmann::json reference() {
  std::ifstream file(KVEVICT_REFERENCE "/reference.json");
  return nlohmann::json::parse(file);
}

const llama& model() {
  static const llama loaded(KVEVICT_MODEL);
  return loaded;
}

/// Logits of the last `rows` tokens of a prompt that runs at once, with a policy if there is one.
std::vector<float> prefill(const std::vector<int>& tokens, int rows, const std::string& policy,
                           kvevict::amount budget = kvevict::percent(100)) {
  const llama_config& c = model().config();
  kv_memory cache(c.layers, c.kv_heads, c.dims, static_cast<int>(tokens.size()));
  std::unique_ptr<evictor> evict;
  if (!policy.empty()) evict = make_evictor(policy, budget, c, cache, static_cast<int>(tokens.size()));
  return model().forward(tokens, 0, cache, rows, [&](const layer_rows& r) {
    if (evict) evict->after_attention(r, 0);
  });
}

}  // namespace

TEST_CASE("logits of a prompt of 1000 tokens are those of transformers") {
  const nlohmann::json expected = reference();
  const auto tokens = expected["tokens"].get<std::vector<int>>();
  const auto columns = expected["columns"].get<std::vector<std::size_t>>();
  const tensor_file file(KVEVICT_REFERENCE "/reference.safetensors");
  const std::vector<float> some = file.tensor("some").floats(), last = file.tensor("last").floats();
  const auto vocabulary = static_cast<std::size_t>(model().config().vocabulary);
  REQUIRE(last.size() == vocabulary);
  REQUIRE(some.size() == tokens.size() * columns.size());
  const std::vector<float> logits = prefill(tokens, static_cast<int>(tokens.size()), "");
  float worst = 0;
  for (std::size_t t = 0; t < tokens.size(); ++t)
    for (std::size_t c = 0; c < columns.size(); ++c)
      worst = std::max(worst, std::abs(logits[t * vocabulary + columns[c]] - some[t * columns.size() + c]));
  for (std::size_t i = 0; i < vocabulary; ++i)
    worst = std::max(worst, std::abs(logits[(tokens.size() - 1) * vocabulary + i] - last[i]));
  MESSAGE("largest difference: " << worst);
  CHECK(worst < 1e-3F);
}

TEST_CASE("logits spread more widely than the step gain of AhaKV supposes") {
  struct moments {
    double count = 0, sum = 0, squares = 0;
    void add(const moments& m) { count += m.count, sum += m.sum, squares += m.squares; }
    [[nodiscard]] double deviation() const { return std::sqrt(squares / count - sum * sum / count / count); }
  };
  const auto tokens = reference()["tokens"].get<std::vector<int>>();
  const llama_config& c = model().config();
  kv_memory cache(c.layers, c.kv_heads, c.dims, static_cast<int>(tokens.size()));
  const int window = 32, rows = c.layers * c.query_heads * window;
  double of_rows = 0, of_layers = 0;
  model().forward(tokens, 0, cache, 1, [&](const layer_rows& r) {
    moments layer;
    for (int i = 0; i < c.query_heads * window; ++i) {
      const int head = i % c.query_heads, row = r.tokens - 1 - i / c.query_heads;
      const Eigen::Map<const Eigen::VectorXf> query(r.queries + (row * c.query_heads + head) * c.dims, c.dims);
      const Eigen::Map<const Eigen::MatrixXf> keys(cache.keys(r.layer, head / (c.query_heads / c.kv_heads)), c.dims,
                                                   row + 1);
      const Eigen::VectorXd logits = (keys.transpose() * query).cast<double>() / std::sqrt(c.dims);
      const moments one{row + 1.0, logits.sum(), logits.squaredNorm()};
      of_rows += one.deviation() / rows;
      layer.add(one);
    }
    of_layers += layer.deviation() / c.layers;
  });
  CHECK(of_rows == doctest::Approx(2.52).epsilon(0.005));  // the numbers that our pages give
  CHECK(of_layers == doctest::Approx(3.82).epsilon(0.005));
}

TEST_CASE("evicting nothing changes no bit") {
  auto tokens = reference()["tokens"].get<std::vector<int>>();
  tokens.resize(300);
  const std::vector<float> untouched = prefill(tokens, 1, "");
  for (const char* policy : {"full", "snapkv", "ada_h2o"}) CHECK(prefill(tokens, 1, policy) == untouched);
  CHECK(prefill(tokens, 1, "snapkv", kvevict::percent(25)) == untouched);  // the last row attends before the eviction

  generation_task task;
  task.prompt = tokens;
  task.tokens = 8;
  task.every = 0;
  task.budget = kvevict::slots(400);
  const std::vector<int> continued = generate(model(), task, {}).tokens;
  CHECK(continued.size() == 8);
  task.policy = "ada_snapkv";
  CHECK(generate(model(), task, {}).tokens == continued);
}

TEST_CASE("6000 tokens run in a cache of 512 slots per head") {
  const auto passage = reference()["tokens"].get<std::vector<int>>();
  std::vector<int> tokens;
  while (tokens.size() < 6000) tokens.push_back(passage[tokens.size() % passage.size()]);
  const llama_config& c = model().config();
  kv_memory cache(c.layers, c.kv_heads, c.dims, 512);  // one slot more would be refused
  const auto evict = make_evictor("snapkv", kvevict::slots(384), c, cache, 6000);
  std::vector<float> logits;
  for (int at = 0; at < 6000; at += 128) {
    const std::vector<int> piece(tokens.begin() + at, tokens.begin() + std::min(at + 128, 6000));
    logits = model().forward(piece, at, cache, 1, [&](const layer_rows& r) { evict->after_attention(r, 0); });
  }
  CHECK(cache.slots() == 384 * c.layers * c.kv_heads);
  CHECK(cache.resident_bytes() <= std::int64_t{512} * c.layers * c.kv_heads * c.dims * 8);
  for (const float x : logits) REQUIRE(std::isfinite(x));
  CHECK(evict->positions(0, 0).back() == 5999);
}

int main(int argc, char** argv) {
  if (std::filesystem::exists(KVEVICT_MODEL "/done")) return doctest::Context(argc, argv).run();
  std::puts("skipped: there is no model; ./dev model fetches it");
  return 77;
}
