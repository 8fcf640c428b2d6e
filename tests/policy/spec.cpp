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
  CHECK(round_trip("snapkv:recent=window") == round_trip("snapkv"));
  CHECK(round_trip("snapkv:recent=5") != round_trip("snapkv"));
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

namespace {
struct newest_but_one {
  static constexpr const char* name = "newest_but_one";
  amount budget = slots(16);
  index_t sinks = 1;
  template <class Self, class Visit>
  static constexpr void options(Self& self, Visit&& visit) {
    visit("sinks", self.sinks);
  }
  [[nodiscard]] constexpr auto scorer() const { return score::recency{}; }
  [[nodiscard]] constexpr auto rule() const { return budget::uniform{budget}; }
  [[nodiscard]] constexpr protect protection() const { return {sinks, slots(0)}; }
};
}  // namespace

TEST_CASE("a policy of one's own has a spec too, beside the library's") {
  std::string text;
  const auto visit = [&](std::string_view spec) {
    return visit_policy<newest_but_one>(spec, slots(8), [&](const auto& p) { text = to_string(p); });
  };
  CHECK(visit("newest_but_one:sinks=3").empty());
  CHECK(text == "newest_but_one:sinks=3");
  CHECK(visit("ada_newest_but_one").empty());
  CHECK(text == "ada_newest_but_one:sinks=1,floor=0.2,safeguard=mixture");
  CHECK(visit("h2o").empty());
  CHECK(text == "h2o:recent=50%,sinks=0");
  CHECK(contains(visit("newest"), "policies are: newest_but_one, full"));
  CHECK(contains(visit("newest_but_one:sink=3"), "sinks (1)"));
  CHECK(contains(round_trip("newest_but_one"), "unknown policy"));
}

TEST_CASE("amounts: slots, shares, and what is neither") {
  amount a;
  CHECK((parse_amount("512", a) && a == slots(512)));
  CHECK((parse_amount("12.5%", a) && a == percent(12.5)));
  for (const char* bad : {"", "%", "-1", "1.5", "101%", "many", "5 %", "3000000000", "nan"})
    CHECK_FALSE(parse_amount(bad, a));
}
