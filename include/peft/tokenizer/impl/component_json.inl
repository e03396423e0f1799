// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the factories of all components share. Included by .inl files alone.

#include <string>
#include <string_view>
#include <vector>

#include "peft/core/error.hpp"
#include "peft/io/json.hpp"
#include "peft/tokenizer/pattern.hpp"

namespace peft::tokenizer::detail {

/// Runs `make` and gives an Error that knows no file the name of this one.
template <class Make>
auto in_file(std::string_view path, Make make) -> decltype(make()) {
  try {
    return make();
  } catch (const FormatError&) {
    throw;
  } catch (const Error& e) {
    throw FormatError(path, -1, e.what());
  }
}

/// One component of a tokenizer.json, `{"type": …, …}`; every error names the file, the component and the field. A null field counts as absent.
class Component {
 public:
  /// `kind` is "normalizer", "decoder", …
  Component(const Json& json, std::string_view path, std::string_view kind) : json_(json), path_(path), kind_(kind) {
    if (!json.is_object()) throw error("is not an object");
  }
  std::string_view path() const { return path_; }
  FormatError error(const std::string& what) const { return FormatError(path_, -1, std::string(kind_) + (type_.empty() ? "" : " " + type_) + ": " + what); }

  std::string type() {
    type_ = string("type");
    return type_;
  }
  FormatError unknown(const std::vector<std::string>& known) const {
    return FormatError(path_, -1, std::string(kind_) + " type \"" + type_ + "\" is not supported" + did_you_mean(type_, known, "supported are", 32));
  }

  const Json* find(const char* key) const {
    const Json* value = json_.get(key);
    return value != nullptr && !value->is_null() ? value : nullptr;
  }
  const Json& at(const char* key) const {
    if (const Json* value = find(key)) return *value;
    throw error(std::string("the field \"") + key + "\" is missing");
  }
  std::string string(const char* key) const {
    return read(key, [&] { return std::string(at(key).string()); });
  }
  std::string string(const char* key, const char* otherwise) const { return find(key) != nullptr ? string(key) : otherwise; }
  bool boolean(const char* key, bool otherwise) const {
    return find(key) == nullptr ? otherwise : read(key, [&] { return at(key).boolean(); });
  }
  std::int64_t integer(const char* key, std::int64_t low, std::int64_t high) const {
    const std::int64_t value = read(key, [&] { return at(key).integer(); });
    if (value < low || value > high)
      throw error(std::string("\"") + key + "\" is " + std::to_string(value) + "; allowed are " + std::to_string(low) + " to " + std::to_string(high));
    return value;
  }
  const Json& list(const char* key) const {
    if (!at(key).is_array()) throw error(std::string("\"") + key + "\" is not a list");
    return at(key);
  }
  /// {"String": …} or {"Regex": …}
  Pattern pattern(const char* key) const {
    const Json& value = at(key);
    if (value.is_object())
      for (const char* kind : {"String", "Regex"})
        if (const Json* text = value.get(kind); text != nullptr && text->is_string()) {
          if (std::string(text->string()).empty()) throw error(std::string("\"") + key + "\" is empty");
          return kind[0] == 'S' ? Pattern::literal(std::string(text->string())) : Pattern::regex(text->string(), path_);
        }
    throw error(std::string("\"") + key + "\" must be {\"String\": …} or {\"Regex\": …}");
  }

 private:
  template <class F>
  auto read(const char* key, F f) const -> decltype(f()) {
    try {
      return f();
    } catch (const FormatError& e) {
      if (e.path() == path_) throw;
      throw error(std::string("\"") + key + "\": " + e.what());
    } catch (const Error& e) {
      throw error(std::string("\"") + key + "\": " + e.what());
    }
  }

  const Json& json_;
  std::string path_;
  std::string_view kind_;
  std::string type_;
};

/// Sequences may hold sequences; no published tokenizer goes deeper than two.
inline constexpr int deepest_sequence = 32;

template <class Pointer, class Make>
std::vector<Pointer> make_steps(const Component& component, const char* key, Make make, int depth) {
  if (depth >= deepest_sequence) throw component.error("sequences are nested more than " + std::to_string(deepest_sequence) + " deep");
  std::vector<Pointer> steps;
  for (const Json& step : component.list(key).array())
    if (Pointer made = make(step, component.path(), depth + 1)) steps.push_back(std::move(made));
  return steps;
}

}  // namespace peft::tokenizer::detail
