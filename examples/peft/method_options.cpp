// SPDX-License-Identifier: Apache-2.0
#include "method_options.hpp"

#include <algorithm>
#include <charconv>

#include "common.hpp"

namespace tool {

namespace {

// A config's `describe`, setting one field from text.
class FieldSetter {
 public:
  FieldSetter(std::string key, std::string text) : key_(std::move(key)), text_(std::move(text)) {}
  bool found() const { return found_; }
  const std::vector<std::string>& known() const { return known_; }

  void operator()(const char* key, std::int64_t& to) {
    if (wants(key)) to = number<std::int64_t>("a whole number");
  }
  void operator()(const char* key, double& to) {
    if (wants(key)) to = number<double>("a number");
  }
  void operator()(const char* key, bool& to) {
    if (wants(key)) to = truth();
  }
  void operator()(const char* key, std::string& to) {
    if (wants(key)) to = text_;
  }
  void operator()(const char* key, std::optional<std::string>& to) {
    if (wants(key)) to = text_;
  }
  void operator()(const char* key, peft::TargetModules& to) {
    if (wants(key)) to = targets_of(text_);
  }
  void operator()(const char* key, peft::Toggle& to) {
    if (wants(key)) to = toggle();
  }
  void operator()(const char* key, std::vector<std::string>& to) {
    if (wants(key)) to = CLI::detail::split(text_, ',');
  }
  void operator()(const char* key, std::vector<std::int64_t>& to) {
    if (wants(key)) to = integers();
  }
  void operator()(const char* key, peft::TokenIndices& to) {
    if (wants(key)) to = {{"", integers()}};
  }
  void operator()(const char* key, peft::RowPatterns&) {
    if (wants(key)) refuse("comes out of a file alone");
  }
  template <class V>
  void operator()(const char* key, peft::Patterns<V>& to) {
    if (!wants(key)) return;
    for (const std::string& pair : CLI::detail::split(text_, ',')) {
      const std::size_t colon = pair.rfind(':');
      if (colon == std::string::npos) refuse("wants pattern:value,pattern:value");
      FieldSetter value(key_, pair.substr(colon + 1));
      V v{};
      value(key_.c_str(), v);
      to.emplace_back(pair.substr(0, colon), v);
    }
  }
  template <class V>
  requires requires(const V& v) { v.toggle(); }
  void operator()(const char* key, V& to) {
    if (wants(key)) to = V(toggle());
  }
  template <class V>
  void whole(const char* key, V& to) {
    (*this)(key, to);
  }
  void own(const char* key, std::string& to) { (*this)(key, to); }
  void as_written(const char*) {}
  void keep(const char*, const char*) {}
  void only(const char*, const char*) {}

 private:
  bool wants(const char* key) {
    known_.emplace_back(key);
    found_ = found_ || key_ == key;
    return key_ == key;
  }
  [[noreturn]] void refuse(const std::string& why) const { throw peft::ConfigError("train", key_ + " = \"" + text_ + "\": " + why); }
  bool truth() const {
    if (text_ != "true" && text_ != "false") refuse("true or false is wanted");
    return text_ == "true";
  }
  peft::Toggle toggle() const { return text_ == "true" || text_ == "false" ? peft::Toggle(text_ == "true") : peft::Toggle(text_); }
  template <class V>
  V number(const char* what) const {
    V value{};
    const auto [end, error] = std::from_chars(text_.data(), text_.data() + text_.size(), value);
    if (error != std::errc() || end != text_.data() + text_.size()) refuse(std::string(what) + " is wanted");
    return value;
  }
  std::vector<std::int64_t> integers() const {
    std::vector<std::int64_t> all;
    for (const std::string& one : CLI::detail::split(text_, ',')) all.push_back(FieldSetter(key_, one).number<std::int64_t>("whole numbers are wanted; this"));
    return all;
  }
  std::string key_, text_;
  bool found_ = false;
  std::vector<std::string> known_;
};

}  // namespace

std::string method_name(const std::string& peft_type) {
  std::string name = peft_type;
  for (char& c : name) c = c >= 'A' && c <= 'Z' ? char(c - 'A' + 'a') : c;
  return name;
}

peft::TargetModules targets_of(const std::string& text) {
  if (text.empty()) return {};
  if (text == "all-linear") return text;
  return CLI::detail::split(text, ',');
}

std::vector<std::string> method_names() {
  std::vector<std::string> names;
  peft::for_each_method([&]<class C>(std::type_identity<C>) { names.push_back(method_name(C::peft_type)); });
  std::sort(names.begin(), names.end());
  return names;
}

peft::AnyAdapterConfig method_config(const std::string& method, const Settings& settings) {
  std::optional<peft::AnyAdapterConfig> found;
  peft::for_each_method([&]<class C>(std::type_identity<C>) {
    if (method_name(C::peft_type) != method) return;
    C config;
    for (const auto& [key, text] : settings) {
      FieldSetter set(key, text);
      C::describe(config, set);
      if (!set.found())
        throw peft::ConfigError("train", "the method " + method + " has no option \"" + key + "\"" + peft::did_you_mean(key, set.known(), "options here", 64));
    }
    validate(config);
    found = std::move(config);
  });
  if (!found) throw peft::ConfigError("train", "method \"" + method + "\" is not known" + peft::did_you_mean(method, method_names(), "methods here", 64));
  return *found;
}

}  // namespace tool
