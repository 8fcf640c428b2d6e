// SPDX-License-Identifier: MIT
#include "sample.hpp"

#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>

std::vector<sample> read_samples(const std::filesystem::path& file) {
  std::ifstream in(file);
  if (!in) throw std::runtime_error(file.string() + ": cannot be opened for reading");
  std::vector<sample> samples;
  std::string line;
  for (int number = 1; std::getline(in, line); ++number) try {
      const nlohmann::json json = nlohmann::json::parse(line);
      sample s{.name = json.at("sample"),
               .measure = json.at("measure"),
               .context = json.at("context"),
               .follow = json.at("follow"),
               .scored = json.at("scored")};
      if (s.context.empty() || s.scored < 1 || s.scored >= static_cast<int>(s.follow.size()))
        throw std::runtime_error("a context needs tokens, and `follow` more than the scored ones");
      samples.push_back(std::move(s));
    } catch (const std::exception& error) {
      throw std::runtime_error(file.string() + ", line " + std::to_string(number) + ": " + error.what());
    }
  if (samples.empty()) throw std::runtime_error(file.string() + ": there are no samples in it");
  return samples;
}
