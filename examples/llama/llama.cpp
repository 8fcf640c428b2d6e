// SPDX-License-Identifier: MIT
#include "llama.hpp"

#include <Eigen/Core>
#include <cmath>
#include <fstream>

#include "attention.hpp"

namespace {

llama_config read_config(const std::filesystem::path& path) {
  std::ifstream file(path);
  if (!file) throw file_error(path.string() + ": cannot be opened for reading");
  const nlohmann::json json = nlohmann::json::parse(file, nullptr, false);
  const auto number = [&](const char* name) {
    if (!json.is_object() || !json.contains(name) || !json[name].is_number())
      throw file_error(path.string() + ": " + name + " must be a number");
    return json[name].get<float>();
  };
  const auto count = [&](const char* name) { return static_cast<int>(number(name)); };
  llama_config c{.layers = count("num_hidden_layers"),
                 .hidden = count("hidden_size"),
                 .intermediate = count("intermediate_size"),
                 .query_heads = count("num_attention_heads"),
                 .kv_heads = count("num_key_value_heads"),
                 .dims = count("head_dim"),
                 .vocabulary = count("vocab_size"),
                 .positions = count("max_position_embeddings"),
                 .rope_theta = number("rope_theta"),
                 .norm_epsilon = number("rms_norm_eps")};
  if (c.layers < 1 || c.kv_heads < 1 || c.query_heads % c.kv_heads != 0 || c.dims % 2 != 0)
    throw file_error(path.string() + ": these are not the sizes of a Llama model");
  return c;
}

/// Aligned, because where Eigen's loops begin to use vectors, and so how they round, depends on the address: the same
/// tokens shall give the same bits.
using floats = std::vector<float, Eigen::aligned_allocator<float>>;

template <class Floats>
auto row(const Floats& of, int r, int width) {
  return Eigen::Map<const Eigen::ArrayXf>(of.data() + std::int64_t{r} * width, width);
}
auto row(floats& of, int r, int width) {
  return Eigen::Map<Eigen::ArrayXf>(of.data() + std::int64_t{r} * width, width);
}

/// x / sqrt(mean(x^2) + epsilon) * weight, for every row.
void normalise(const floats& x, int rows, const std::vector<float>& weight, float epsilon, floats& out) {
  const auto width = static_cast<int>(weight.size());
#pragma omp parallel for
  for (int r = 0; r < rows; ++r) {
    const auto in = row(x, r, width);
    row(out, r, width) = in * (1 / std::sqrt(in.square().mean() + epsilon)) * row(weight, 0, width);
  }
}

/// Turns the two halves of a head by the angles of its position.
void rotate(float* head, int dims, const float* cosine, const float* sine) {
  for (int i = 0; i < dims / 2; ++i) {
    const float a = head[i], b = head[i + dims / 2];
    head[i] = a * cosine[i] - b * sine[i];
    head[i + dims / 2] = b * cosine[i] + a * sine[i];
  }
}

}  // namespace

llama::llama(const std::filesystem::path& folder)
    : config_(read_config(folder / "config.json")), file_(folder / "model.safetensors") {
  const auto get = [&](const std::string& name, int outputs, int inputs) {
    const matrix m(file_.tensor(name + ".weight"));
    if (m.outputs != outputs || m.inputs != inputs)
      file_.fail("tensor " + name + ".weight: not the shape in config.json");
    return m;
  };
  const auto get_norm = [&](const std::string& name) {
    std::vector<float> weight = file_.tensor(name + ".weight").floats();
    if (static_cast<int>(weight.size()) != config_.hidden)
      file_.fail("tensor " + name + ".weight: not the shape in config.json");
    return weight;
  };
  const int hidden = config_.hidden, all_queries = config_.query_heads * config_.dims,
            all_keys = config_.kv_heads * config_.dims;
  embedding_ = get("model.embed_tokens", config_.vocabulary, hidden);
  norm_ = get_norm("model.norm");
  for (int l = 0; l < config_.layers; ++l) {
    const std::string at = "model.layers." + std::to_string(l) + ".";
    layers_.push_back(
        {get_norm(at + "input_layernorm"), get_norm(at + "post_attention_layernorm"),
         get(at + "self_attn.q_proj", all_queries, hidden), get(at + "self_attn.k_proj", all_keys, hidden),
         get(at + "self_attn.v_proj", all_keys, hidden), get(at + "self_attn.o_proj", hidden, all_queries),
         get(at + "mlp.gate_proj", config_.intermediate, hidden), get(at + "mlp.up_proj", config_.intermediate, hidden),
         get(at + "mlp.down_proj", hidden, config_.intermediate)});
  }
}

std::int64_t llama::weight_bytes() const {
  std::int64_t bytes = embedding_.bytes();
  for (const layer& l : layers_)
    for (const matrix* m : {&l.queries, &l.keys, &l.values, &l.output, &l.gate, &l.up, &l.down}) bytes += m->bytes();
  return bytes;
}

void llama::angles(int position, float* cosine, float* sine) const {
  for (int i = 0; i < config_.dims / 2; ++i) {  // rounded where transformers rounds
    const float frequency =
        1 / std::pow(config_.rope_theta, static_cast<float>(2 * i) / static_cast<float>(config_.dims));
    const float angle = static_cast<float>(position) * frequency;
    cosine[i] = std::cos(angle);
    sine[i] = std::sin(angle);
  }
}

void llama::check(const new_tokens& of) const {
  for (const int token : of.tokens)
    if (token < 0 || token >= config_.vocabulary)
      throw std::runtime_error("token " + std::to_string(token) + " is not in the vocabulary");
  const auto count = static_cast<int>(of.tokens.size());
  for (int l = 0; l < config_.layers; ++l)
    for (int h = 0; h < config_.kv_heads; ++h)
      if (const int held = of.cache->lengths(l)[h]; held > of.cache->capacity() - count)
        throw std::runtime_error("the cache has room for " + std::to_string(of.cache->capacity()) +
                                 " slots per head, but " + std::to_string(held + count) + " are needed");
}

std::vector<float> llama::forward(const std::vector<int>& tokens, int position, kv_memory& cache, int rows,
                                  const after_attention& after) const {
  const new_tokens one{tokens, position, &cache, rows};
  return forward(std::span(&one, 1), after);
}

std::vector<float> llama::forward(std::span<const new_tokens> batch, const after_attention& after) const {
  struct token_place {
    int sequence, index;  // index among the new tokens of its sequence
  };
  std::vector<token_place> places;
  for (std::size_t s = 0; s < batch.size(); ++s) {
    check(batch[s]);
    for (std::size_t i = 0; i < batch[s].tokens.size(); ++i)
      places.push_back({static_cast<int>(s), static_cast<int>(i)});
  }
  const auto of = [&](int t) -> const token_place& { return places[static_cast<std::size_t>(t)]; };
  const auto sequence = [&](int s) -> const new_tokens& { return batch[static_cast<std::size_t>(s)]; };
  const auto count = static_cast<int>(places.size()), sequences = static_cast<int>(batch.size());
  const int hidden = config_.hidden, dims = config_.dims, query_heads = config_.query_heads,
            kv_heads = config_.kv_heads, wide = config_.intermediate, half = dims / 2;
  const auto buffer = [&](int width) {
    return floats(static_cast<std::size_t>(count) * static_cast<std::size_t>(width));
  };
  floats x = buffer(hidden), normal = buffer(hidden), sum = buffer(hidden), q = buffer(query_heads * dims),
         k = buffer(kv_heads * dims), v = buffer(kv_heads * dims), attended = buffer(query_heads * dims),
         lse = buffer(query_heads), gate = buffer(wide), up = buffer(wide), cosine = buffer(half), sine = buffer(half);
  const auto add_sum = [&] {
#pragma omp parallel for
    for (int t = 0; t < count; ++t) row(x, t, hidden) += row(sum, t, hidden);
  };
#pragma omp parallel for
  for (int t = 0; t < count; ++t) {
    const new_tokens& from = sequence(of(t).sequence);
    embedding_.row(from.tokens[static_cast<std::size_t>(of(t).index)], &row(x, t, hidden)[0]);
    angles(from.position + of(t).index, &row(cosine, t, half)[0], &row(sine, t, half)[0]);
  }

  for (int l = 0; l < config_.layers; ++l) {
    const layer& w = layers_[static_cast<std::size_t>(l)];
    normalise(x, count, w.attention_norm, config_.norm_epsilon, normal);
    multiply(normal.data(), count, w.queries, q.data());
    multiply(normal.data(), count, w.keys, k.data());
    multiply(normal.data(), count, w.values, v.data());
#pragma omp parallel for
    for (int t = 0; t < count; ++t) {
      const float *c = &row(cosine, t, half)[0], *s = &row(sine, t, half)[0];
      kv_memory& cache = *sequence(of(t).sequence).cache;
      for (int h = 0; h < query_heads; ++h) rotate(&row(q, t, query_heads * dims)[h * dims], dims, c, s);
      for (int h = 0; h < kv_heads; ++h) {
        float* const key = &row(k, t, kv_heads * dims)[h * dims];
        rotate(key, dims, c, s);
        const std::int64_t slot = (std::int64_t{cache.lengths(l)[h]} + of(t).index) * dims;
        std::copy(key, key + dims, cache.keys(l, h) + slot);
        std::copy_n(&row(v, t, kv_heads * dims)[h * dims], dims, cache.values(l, h) + slot);
      }
    }
    for (int s = 0, first = 0; s < sequences; ++s) {
      const auto tokens = static_cast<int>(sequence(s).tokens.size());
      kv_memory& cache = *sequence(s).cache;
      for (int h = 0; h < kv_heads; ++h) cache.lengths(l)[h] += tokens;
      const float* const queries = &row(q, first, query_heads * dims)[0];
      float* const log_sum_exp = &row(lse, first, query_heads)[0];
      attend(queries, tokens, query_heads, cache, l, &row(attended, first, query_heads * dims)[0], log_sum_exp);
      if (after) after({l, tokens, queries, log_sum_exp, s});
      first += tokens;
    }
    multiply(attended.data(), count, w.output, sum.data());
    add_sum();

    normalise(x, count, w.mlp_norm, config_.norm_epsilon, normal);
    multiply(normal.data(), count, w.gate, gate.data());
    multiply(normal.data(), count, w.up, up.data());
#pragma omp parallel for
    for (int t = 0; t < count; ++t) {
      auto g = row(gate, t, wide);
      g = g / (1 + (-g).exp()) * row(up, t, wide);  // SwiGLU
    }
    multiply(gate.data(), count, w.down, sum.data());
    add_sum();
  }

  floats last;
  for (int s = 0, end = 0; s < sequences; ++s) {
    end += static_cast<int>(sequence(s).tokens.size());
    last.insert(last.end(), x.begin() + std::int64_t{end - sequence(s).rows} * hidden,
                x.begin() + std::int64_t{end} * hidden);
  }
  const auto rows = static_cast<int>(last.size()) / hidden;
  normal.resize(last.size());
  normalise(last, rows, norm_, config_.norm_epsilon, normal);
  std::vector<float> logits(static_cast<std::size_t>(rows) * static_cast<std::size_t>(config_.vocabulary));
  if (rows > 0) multiply(normal.data(), rows, embedding_, logits.data());
  return logits;
}
