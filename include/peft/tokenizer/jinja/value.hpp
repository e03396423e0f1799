// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "peft/core/config.hpp"
#include "peft/tokenizer/fwd.hpp"

namespace peft::jinja {

class Value;
/// What a call hands over: f(1, key=2).
struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
  /// The argument at this place or of this name; null if there is none.
  const Value* find(std::size_t place, std::string_view name) const;
};

/// A value of the template language, with Python's rules for truth, printing and comparison. Lists and mappings are shared, as there. Throws ConfigError for
/// lists and mappings a hundred deep, and for a namespace within another value: it could hold itself.
class Value {
 public:
  enum class Kind { undefined, none, boolean, integer, number, string, list, mapping, name_space, function };
  using List = std::vector<Value>;
  using Mapping = std::vector<std::pair<std::string, Value>>;
  using Function = std::function<Value(const Arguments&)>;

  Value() = default;
  static Value none() { return Value(Kind::none); }
  static Value undefined(std::string name);
  /// `depth`: of the values that it holds.
  static Value function(Function f, int depth = 0);
  static Value mapping(Mapping members, Kind kind = Kind::mapping);
  explicit Value(bool value) : kind_(Kind::boolean), integer_(value) {}
  explicit Value(std::int64_t value) : kind_(Kind::integer), integer_(value) {}
  explicit Value(double value) : kind_(Kind::number), number_(value) {}
  explicit Value(std::string value) : kind_(Kind::string), text_(std::move(value)) {}
  explicit Value(const char* value) : Value(std::string(value)) {}
  explicit Value(List items);
  static Value of(const Json& json);
  /// Throws ConfigError for what JSON has no word for.
  Json json() const;

  Kind kind() const { return kind_; }
  /// Values within this one that hold each other.
  int depth() const { return depth_; }
  /// Bytes, of its own text alone.
  std::size_t text_size() const { return text_.size(); }
  bool is(Kind kind) const { return kind_ == kind; }
  bool is_numeric() const { return kind_ == Kind::integer || kind_ == Kind::number || kind_ == Kind::boolean; }
  /// "a string", "a list", … for messages; an undefined value says its name.
  std::string described() const;

  bool truth() const;
  std::string printed() const;      // as str() prints it; undefined prints nothing
  std::string represented() const;  // as repr() does: strings in quotes
  std::int64_t integer() const;     // these four throw ConfigError on another kind
  double number() const;
  const std::string& string() const;
  const List& list() const;
  Mapping& members() const;  // of a mapping or a namespace
  const Function& callable() const;
  /// The member of this name; null if there is none or this has no members.
  const Value* member(std::string_view key) const;
  /// What `for` runs over: items, keys, characters; nothing for undefined.
  List iterated() const;

  bool operator==(const Value& other) const;
  /// Less than, of numbers, strings and lists; throws ConfigError for what has no order.
  bool operator<(const Value& other) const;

 private:
  explicit Value(Kind kind) : kind_(kind) {}
  void hold(const Value& part);
  Kind kind_ = Kind::undefined;
  int depth_ = 0;
  std::int64_t integer_ = 0;
  double number_ = 0;
  std::string text_;
  std::shared_ptr<List> items_;
  std::shared_ptr<Mapping> members_;
  std::shared_ptr<Function> function_;
};

}  // namespace peft::jinja

#if !defined(PEFT_COMPILED)
#include "peft/tokenizer/jinja/impl/value.inl"
#endif
