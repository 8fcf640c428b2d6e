// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include <cmath>
#include <measure.hpp>

#include "../llama/small_model.hpp"

/// What measure_quality measures, on distributions that fit in a line and on a small model of random weights.
namespace {

std::vector<float> logs(std::initializer_list<double> probabilities, double shift) {
  std::vector<float> logits;
  for (const double p : probabilities) logits.push_back(static_cast<float>(std::log(p) + shift));
  return logits;
}

sample some_sample() {
  const std::vector<int> tokens = some_tokens(150);
  return {.name = "s",
          .measure = "prose",
          .context = {tokens.begin(), tokens.begin() + 130},
          .follow = {tokens.begin() + 130, tokens.end()},
          .scored = 17};
}

std::vector<run_result> results(measured_sample& of, const std::vector<policy_run>& runs, int slack = -1) {
  std::vector<run_result> found;
  const auto keep = [&](const policy_run&, const run_result& r) { found.push_back(r); };
  if (slack < 0)
    of.after_prompt(runs, keep);
  else
    of.along_decode(runs, slack, keep);
  return found;
}

}  // namespace

TEST_CASE("predictions compared, by hand") {
  // Two positions, three tokens; logits may be shifted by any number.
  std::vector<float> full = logs({0.5, 0.25, 0.25}, 3), other = logs({0.25, 0.5, 0.25}, -1);
  const std::vector<float> full_second = logs({0.1, 0.1, 0.8}, 0), other_second = logs({0.1, 0.1, 0.8}, 20);
  full.insert(full.end(), full_second.begin(), full_second.end());
  other.insert(other.end(), other_second.begin(), other_second.end());
  const full_predictions predictions(full, {1, 2});
  const comparison c = predictions.compare(other.data());
  const double kld = 0.5 * std::log(2.0) + 0.25 * std::log(0.5);
  CHECK(c.kld == doctest::Approx(kld / 2).epsilon(1e-5));
  CHECK(c.log_kld == doctest::Approx((std::log(kld) + std::log(1e-10)) / 2).epsilon(1e-2));
  CHECK(c.nll == doctest::Approx(-(std::log(0.5) + std::log(0.8)) / 2).epsilon(1e-5));
  CHECK(c.agreement == 0.5);
  CHECK(c.accuracy == 1);
  CHECK(c.exact);
  const comparison same = predictions.compare_with_itself();
  CHECK(std::abs(same.kld) < 1e-6);
  CHECK(same.agreement == 1);
  CHECK(same.accuracy == 0.5);
  CHECK_FALSE(same.exact);
}

TEST_CASE("the slots that are kept are those of evict, for every policy and with head-wise budgets") {
  const small_model files;
  const llama model(files.folder);
  prompt of(model, some_sample().context, 0);
  prompt_policies policies(of);
  std::vector<std::string> specs{"pooled_ahakv", "ada_decayed_unlike"};
  for (const std::string_view name : kvevict::policy_names)
    for (const char* prefix : {"", "ada_"}) specs.push_back(prefix + std::string(name));
  const auto in = of.inputs();
  int compared = 0;
  for (const std::string& spec : specs)
    for (const kvevict::amount budget : {kvevict::percent(30), kvevict::slots(64)}) {
      kept_slots kept = policies.keep(spec, budget);
      static_cast<void>(kvevict::visit_policy(spec, budget, [&](const auto& policy) {
        using namespace kvevict;
        std::vector<index_t> slots(static_cast<std::size_t>(selection_capacity(policy, in)));
        std::vector<offset_t> offsets(kept.offsets.size());
        std::vector<cache_line> scratch(cache_lines(workspace_bytes(cpu{}, policy, in)));
        REQUIRE(evict(cpu{}, policy, in, {slots, offsets}, workspace_of(scratch)).ok());
        CHECK(kept.slots == slots);
        CHECK(kept.offsets == offsets);
        ++compared;
      }));
      kv_memory target(files.layers, files.kv_heads, files.dims, 130);
      gather_kept(of, kept, target);
      CHECK(target.slots() == kept.offsets.back());
      CHECK(target.keys(1, 1)[0] == of.cache().keys(1, 1)[kept.selection()[3][0] * files.dims]);
    }
  CHECK(compared == 2 * 2 * static_cast<int>(std::size(kvevict::policy_names)));
  CHECK(check_spec("decayed_unlike:decay=256,window=1024").empty());
  CHECK(check_spec("snapkw").find("decayed_unlike") != std::string::npos);
}

TEST_CASE("a sample measured: nothing evicted changes nothing, decode without evictions is the same as the prompt's") {
  const small_model files;
  const llama model(files.folder);
  const sample of = some_sample();
  measured_sample measured(model, of);
  const run_result full = measured.full();
  CHECK(full.slots == 130);
  CHECK(std::abs(full.quality.kld) < 1e-6);
  const std::vector<policy_run> runs{{"snapkv", "100%"},         {"h2o", "25%"},
                                     {"snapkv:window=60", "20"}, {"ada_ahakv", "50%"},
                                     {"decayed_unlike", "40%"},  {"keydiff", "65"}};
  const std::vector<run_result> once = results(measured, runs), along = results(measured, runs, 1000);
  REQUIRE(once.size() == runs.size());
  CHECK(once[0].quality.kld < 1e-6);
  CHECK(once[0].quality.nll == doctest::Approx(full.quality.nll).epsilon(1e-5));
  CHECK(once[1].slots == 32);
  CHECK(once[1].quality.kld > 1e-4);
  CHECK(once[2].problem.find("protected") != std::string::npos);
  CHECK(once[4].slots == 52);
  for (std::size_t i = 0; i < runs.size(); ++i) {
    CHECK(along[i].problem == once[i].problem);
    CHECK(along[i].quality.kld == doctest::Approx(once[i].quality.kld).epsilon(1e-3));
    CHECK(along[i].quality.agreement == once[i].quality.agreement);
    if (once[i].problem.empty()) CHECK(along[i].slots == once[i].slots + 19);  // what was read stays
  }
  for (const run_result& r : results(measured, {{"h2o", "25%"}, {"ada_decayed_unlike", "40%"}}, 1)) {
    CHECK(r.problem.empty());
    CHECK(r.slots <= 52 + 1);
  }
}

TEST_CASE("what is wrong with a file of samples is said, with its line") {
  const auto path = std::filesystem::temp_directory_path() / ("kvevict_" + std::to_string(std::random_device{}()));
  const auto problem = [&](const std::string& text) -> std::string {
    std::ofstream(path) << text;
    try {
      read_samples(path);
    } catch (const std::runtime_error& error) {
      return error.what();
    }
    return "";
  };
  const std::string good = R"({"sample":"a","measure":"copy","context":[1,2],"follow":[3,4],"scored":1})";
  CHECK(problem(good + "\n" + good + "\n").empty());
  CHECK(read_samples(path)[1].follow == std::vector<int>{3, 4});
  CHECK(problem(good + "\n{\n").find("line 2") != std::string::npos);
  CHECK(problem(R"({"sample":"a","measure":"copy","context":[1],"follow":[3],"scored":1})").find("line 1") !=
        std::string::npos);
  CHECK(problem("").find("no samples") != std::string::npos);
  std::filesystem::remove(path);
  CHECK(problem(good).empty());
  std::filesystem::remove(path);
}
