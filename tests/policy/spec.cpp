// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include <kvevict/kvevict.hpp>
#include <kvevict/policy/spec.hpp>

using namespace kvevict;

namespace {
std::string round_trip(std::string_view spec) {
  std::string text;
  const std::string error = visit_policy(spec, slots(100), [&](const auto& p) { text = to_string(p); });
  return error.empty() ? text : "error: " + error;
}
bool contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }
}  // namespace

TEST_CASE("every name, with and without ada_, gives a policy whose text gives it again") {
  for (const std::string_view name : policy_names)
    for (const char* prefix : {"", "ada_"}) {
      const std::string text = round_trip(prefix + std::string(name));
      CHECK(text.starts_with(prefix + std::string(name)));
      CHECK(round_trip(text) == text);
    }
}

TEST_CASE("options reach the policy") {
  bool called = false;
  CHECK(visit_policy("snapkv:window=64,pool=avg,pool_width=5,sinks=2", slots(300), [&](const auto& p) {
          if constexpr (std::is_same_v<std::remove_cvref_t<decltype(p)>, snapkv<score::avg_pool>>) {
            called = true;
            CHECK(p == snapkv<score::avg_pool>{.budget = slots(300), .window = 64, .pool_width = 5, .sinks = 2});
          }
        }).empty());
  CHECK(called);
  CHECK(round_trip("ahakv:gain=plain,accumulation=all,prior=off,prior_width=3") ==
        "ahakv:window=32,gain=plain,accumulation=all,prior=off,prior_width=3,gain_floor=0,sinks=0");
  CHECK(round_trip("ada_snapkv:safeguard=minimum,floor=0.5") ==
        "ada_snapkv:window=32,pool=max,pool_width=7,sinks=0,floor=0.5,safeguard=minimum");
  CHECK(round_trip("h2o:recent=25%") == "h2o:recent=25%,sinks=0");
  CHECK(round_trip("streaming_llm") == "streaming_llm:sinks=4");
}

TEST_CASE("mistakes get a sentence that says what would be right") {
  CHECK(contains(round_trip("snapvk"), "snapkv"));
  CHECK(contains(round_trip(""), "unknown policy"));
  CHECK(contains(round_trip("snapkv:windw=3"), "window (32)"));
  CHECK(contains(round_trip("snapkv:window=x"), "window=x"));
  CHECK(contains(round_trip("snapkv:window="), "window="));
  CHECK(contains(round_trip("snapkv:pool=median"), "max, avg, none"));
  CHECK(contains(round_trip("snapkv:pool_width=4"), "odd"));
  CHECK(contains(round_trip("ada_snapkv:floor=1.5"), "floor"));
  CHECK(contains(round_trip("snapkv:floor=0.5"), "unknown option"));
  CHECK(contains(round_trip("ahakv:gain=soft"), "step, plain"));
}

TEST_CASE("amounts: slots, shares, and what is neither") {
  amount a;
  CHECK((parse_amount("512", a) && a == slots(512)));
  CHECK((parse_amount("12.5%", a) && a == percent(12.5)));
  for (const char* bad : {"", "%", "-1", "1.5", "101%", "many", "5 %", "3000000000", "nan"})
    CHECK_FALSE(parse_amount(bad, a));
}
