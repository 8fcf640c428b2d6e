// SPDX-License-Identifier: MIT
#pragma once

#include <charconv>
#include <kvevict/policy/accumulated_attention.hpp>
#include <kvevict/policy/adakv.hpp>
#include <kvevict/policy/ahakv.hpp>
#include <kvevict/policy/decayed_keydiff.hpp>
#include <kvevict/policy/full.hpp>
#include <kvevict/policy/h2o.hpp>
#include <kvevict/policy/keydiff.hpp>
#include <kvevict/policy/knorm.hpp>
#include <kvevict/policy/nacl.hpp>
#include <kvevict/policy/pyramidkv.hpp>
#include <kvevict/policy/random.hpp>
#include <kvevict/policy/snapkv.hpp>
#include <kvevict/policy/streaming_llm.hpp>
#include <kvevict/policy/tova.hpp>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>

/// From text to a policy's type and back, for command lines and configuration files.
///
///     spec = [ada_]name[:option=value,...]       ada_snapkv:window=16,pool=avg,floor=0.2
///
/// @code
/// std::string problem = visit_policy("ada_snapkv:floor=0.1", percent(25), [&](const auto& policy) { use(policy); });
/// @endcode
///
/// Option names are the members of the policy structs; options that choose a type (pool, gain, accumulation, prior)
/// list the spellings of the types. Policies of your own are named as template arguments, `visit_policy<mine>(...)`;
/// they need what the library's have: a `name`, `options` and a default. Unlike the entry points this allocates: it
/// runs once, at start-up.
namespace kvevict {

/// Every name a spec can start with; each may have `ada_` before it.
inline constexpr std::string_view policy_names[] = {
    "full",  "random",  "streaming_llm", "accumulated_attention", "h2o", "tova", "snapkv", "nacl", "ahakv",
    "knorm", "keydiff", "pyramidkv",     "decayed_keydiff"};

/// A number of slots ("512") or a share ("25%"); false if the text is neither.
[[nodiscard]] inline bool parse_amount(std::string_view text, amount& out) {
  const bool share = !text.empty() && text.back() == '%';
  if (share) text.remove_suffix(1);
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size() || !(number >= 0)) return false;
  if (share ? number > 100 : number > 2147483647.0 || number != static_cast<double>(static_cast<index_t>(number)))
    return false;
  out = share ? percent(number) : slots(static_cast<index_t>(number));
  return true;
}

namespace spec_detail {

/// The options part of a spec, "a=1,b=2".
struct option_text {
  std::string_view rest;

  /// Takes the first `key=value` off; false when there is none left.
  constexpr bool next(std::string_view& key, std::string_view& value) {
    if (rest.empty()) return false;
    const std::string_view item = rest.substr(0, rest.find(','));
    rest.remove_prefix(item.size() < rest.size() ? item.size() + 1 : rest.size());
    const std::size_t equals = item.find('=');
    key = item.substr(0, equals);
    value = equals == std::string_view::npos ? std::string_view{} : item.substr(equals + 1);
    return true;
  }
  /// The last value of a key, empty if absent.
  [[nodiscard]] constexpr std::string_view value_of(std::string_view wanted) const {
    option_text copy = *this;
    std::string_view key, value, found;
    while (copy.next(key, value))
      if (key == wanted) found = value;
    return found;
  }
};

template <class T>
bool parse_number(std::string_view text, T& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc{} && end == text.data() + text.size();
}
inline bool parse(std::string_view text, index_t& out) {
  if (text == "window") out = as_window;
  return text == "window" || parse_number(text, out);
}
inline bool parse(std::string_view text, std::uint64_t& out) { return parse_number(text, out); }
inline bool parse(std::string_view text, double& out) { return parse_number(text, out); }
inline bool parse(std::string_view text, amount& out) { return parse_amount(text, out); }
inline bool parse(std::string_view text, budget::safeguard& out) {
  if (text != "mixture" && text != "minimum") return false;
  out = text == "minimum" ? budget::safeguard::minimum : budget::safeguard::mixture;
  return true;
}

/// What `parse` reads.
constexpr const char* readable(const index_t&) { return "a whole number, or 'window' where that is the default"; }
constexpr const char* readable(const std::uint64_t&) { return "a whole number from 0 up"; }
constexpr const char* readable(const double&) { return "a number"; }
constexpr const char* readable(const amount&) { return "a number of slots, or a share up to 100%"; }
constexpr const char* readable(const budget::safeguard&) { return "mixture or minimum"; }

template <class T>
std::string number_text(T number) {
  char buffer[32];
  const auto result = std::to_chars(buffer, buffer + sizeof buffer, number);
  return {buffer, result.ptr};
}
inline std::string text_of(const char* spelling) { return spelling; }
inline std::string text_of(index_t number) { return number == as_window ? "window" : number_text(number); }
inline std::string text_of(std::uint64_t number) { return number_text(number); }
inline std::string text_of(double number) { return number_text(number); }
inline std::string text_of(amount a) {
  return a.millionths != 0 ? number_text(a.millionths / 1e4) + "%" : number_text(a.slots);
}
inline std::string text_of(budget::safeguard kind) {
  return kind == budget::safeguard::minimum ? "minimum" : "mixture";
}

template <class Policy>
std::string option_names() {
  Policy policy{};
  std::string names;
  Policy::options(policy, [&](const char* name, const auto& value) {
    names += (names.empty() ? "" : ", ") + std::string(name) + " (" + text_of(value) + ")";
  });
  return names.empty() ? "none" : names;
}

/// Sets the options of a policy whose type is settled; returns an error sentence or nothing.
template <class Policy>
std::string assign(Policy& policy, std::string_view name, option_text options) {
  std::string_view key, value;
  while (options.next(key, value)) {
    bool known = false;
    const char* wanted = nullptr;
    Policy::options(policy, [&](const char* option, auto&& member) {
      if (key != option) return;
      known = true;
      if constexpr (!std::is_convertible_v<decltype(member), const char*>)
        if (!parse(value, member)) wanted = readable(member);
    });
    if (!known)
      return "unknown option '" + std::string(key) + "' of " + std::string(name) +
             "; its options (and defaults) are: " + option_names<Policy>();
    if (wanted != nullptr)
      return "cannot read " + std::string(name) + ":" + std::string(key) + "=" + std::string(value) + "; it can be " +
             wanted;
  }
  return {};
}

/// Calls f with the type of `Choices` that the option names, the first one by default.
template <class... Choices, class F>
std::string choose(const option_text& options, const char* option, const F& f) {
  const std::string_view wanted = options.value_of(option);
  std::string result, spellings;
  bool found = false;
  const auto consider = [&]<class Choice>(std::type_identity<Choice>) {
    spellings += (spellings.empty() ? "" : ", ") + std::string(Choice::spelling);
    if (found || (!wanted.empty() && wanted != Choice::spelling)) return;
    found = true;
    result = f(Choice{});
  };
  (consider(std::type_identity<Choices>{}), ...);
  return found ? result : "unknown " + std::string(option) + "=" + std::string(wanted) + "; it can be: " + spellings;
}

/// Calls f(policy) with the default policy that name and type options say; `Own` come first.
template <class... Own, class F>
std::string with_type(std::string_view name, const option_text& options, const F& f) {
  const auto pooled = [&](const auto& make) {
    return choose<score::max_pool, score::avg_pool, score::no_pool>(options, "pool", make);
  };
  std::string result, names;
  [[maybe_unused]] const auto is_own = [&]<class Policy>(std::type_identity<Policy>) {
    names += std::string(Policy::name) + ", ";
    if (name != Policy::name) return false;
    result = f(Policy{});
    return true;
  };
  if ((is_own(std::type_identity<Own>{}) || ...)) return result;
  if (name == full::name) return f(full{});
  if (name == random::name) return f(random{});
  if (name == streaming_llm::name) return f(streaming_llm{});
  if (name == accumulated_attention::name) return f(accumulated_attention{});
  if (name == h2o::name) return f(h2o{});
  if (name == tova::name) return f(tova{});
  if (name == nacl::name) return f(nacl{});
  if (name == knorm::name) return f(knorm{});
  if (name == keydiff::name) return f(keydiff{});
  if (name == decayed_keydiff::name) return f(decayed_keydiff{});
  if (name == snapkv<>::name) return pooled([&]<class Pool>(const Pool&) { return f(snapkv<Pool>{}); });
  if (name == pyramidkv<>::name) return pooled([&]<class Pool>(const Pool&) { return f(pyramidkv<Pool>{}); });
  if (name == ahakv<>::name)
    return choose<score::step_gain, score::plain_gain>(options, "gain", [&]<class Gain>(const Gain&) {
      return choose<recent_rows, every_row>(options, "accumulation", [&]<class Rows>(const Rows&) {
        return choose<score::value_prior, score::no_prior>(
            options, "prior", [&]<class Prior>(const Prior&) { return f(ahakv<Gain, Rows, Prior>{}); });
      });
    });
  for (const std::string_view known : policy_names) names += std::string(known) + ", ";
  return "unknown policy '" + std::string(name) + "'; policies are: " + names + "and ada_ before any of them";
}

}  // namespace spec_detail

/// The spec that makes this policy; its budget is not a part of it.
template <eviction_policy Policy>
[[nodiscard]] std::string to_string(const Policy& policy) {
  constexpr bool adaptive = requires { policy.base; };
  std::string text = (adaptive ? "ada_" : "") + std::string(Policy::name);
  char separator = ':';
  Policy::options(policy, [&](const char* name, const auto& value) {
    const std::string shown = spec_detail::text_of(value);
    if (shown == "window") return;  // a default that follows another option
    text += separator + std::string(name) + "=" + shown;
    separator = ',';
  });
  return text;
}

/// Turns a spec into the policy it names, with that budget, and calls f(policy) once. Returns nothing, or a sentence
/// that says what is wrong and what would be right; f is not called then.
template <class... Own, class F>
[[nodiscard]] std::string visit_policy(std::string_view spec, amount budget, F&& f) {
  const std::size_t colon = spec.find(':');
  const std::string_view full_name = spec.substr(0, colon);
  std::string_view name = full_name;
  const spec_detail::option_text options{colon == std::string_view::npos ? std::string_view{} : spec.substr(colon + 1)};
  const bool adaptive = name.starts_with("ada_");
  if (adaptive) name.remove_prefix(4);
  const auto finish = [&](auto policy) -> std::string {
    std::string error = spec_detail::assign(policy, full_name, options);
    if (!error.empty()) return error;
    const status s = check(policy);
    if (!s.ok()) return std::string(full_name) + ": " + s.sentence;
    f(policy);
    return {};
  };
  return spec_detail::with_type<Own...>(name, options, [&](auto policy) -> std::string {
    policy.budget = budget;
    return adaptive ? finish(adakv{policy}) : finish(policy);
  });
}

}  // namespace kvevict
