// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>

#include "peft/core/error.hpp"
#include "peft/io/json.hpp"
#include "peft/tokenizer/jinja/impl/budget.inl"
#include "peft/tokenizer/jinja/value.hpp"
#include "peft/tokenizer/unicode.hpp"

namespace peft::jinja {
namespace detail {

/// As Python's repr: the shortest text that reads back, with a point or an exponent.
inline std::string printed(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[64];
  const double size = std::abs(value);
  const auto format = size != 0 && (size < 1e-4 || size >= 1e16) ? std::chars_format::scientific : std::chars_format::fixed;
  std::string text(buffer, std::to_chars(buffer, buffer + sizeof buffer, value, format).ptr);
  if (text.find_first_of(".e") == text.npos) text += ".0";
  return text;
}

inline std::vector<std::string> characters(std::string_view text) {
  Budget::charge(text.size() * sizeof(std::string));
  std::vector<std::string> all;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t length = unicode::decode(text, at).length;
    all.emplace_back(text.substr(at, length));
    at += length;
  }
  return all;
}

}  // namespace detail

PEFT_INLINE const Value* Arguments::find(std::size_t place, std::string_view name) const {
  if (place < positional.size()) return &positional[place];
  for (const auto& [key, value] : named)
    if (key == name) return &value;
  return nullptr;
}

PEFT_INLINE Value Value::undefined(std::string name) {
  Value value;
  value.text_ = std::move(name);
  return value;
}
PEFT_INLINE void Value::hold(const Value& part) {
  if (part.is(Kind::name_space)) throw detail::error("a namespace within another value is not supported");
  depth_ = std::max(depth_, part.depth_ + 1);
  if (depth_ > detail::deepest_value) throw detail::error("values are nested more than " + std::to_string(detail::deepest_value) + " deep");
}
PEFT_INLINE Value::Value(List items) : kind_(Kind::list), items_(std::make_shared<List>(std::move(items))) {
  detail::Budget::charge(items_->size() * detail::item_cost);
  for (const Value& item : *items_) hold(item);
}
PEFT_INLINE Value Value::function(Function f, int depth) {
  Value value(Kind::function);
  value.depth_ = depth;
  value.function_ = std::make_shared<Function>(std::move(f));
  return value;
}
PEFT_INLINE Value Value::mapping(Mapping members, Kind kind) {
  Value value(kind);
  value.members_ = std::make_shared<Mapping>(std::move(members));
  detail::Budget::charge(value.members_->size() * detail::item_cost);
  for (const auto& [name, member] : *value.members_) value.hold(member);
  return value;
}

PEFT_INLINE Value Value::of(const Json& json) {
  switch (json.kind()) {
    case Json::Kind::null:
      return none();
    case Json::Kind::boolean:
      return Value(json.boolean());
    case Json::Kind::integer:
      return Value(json.integer());
    case Json::Kind::number:
      return Value(json.number());
    case Json::Kind::string:
      return Value(json.string());
    case Json::Kind::array: {
      List items;
      for (const Json& item : json.array()) items.push_back(of(item));
      return Value(std::move(items));
    }
    case Json::Kind::object: {
      Mapping members;
      for (const auto& [key, member] : json.object()) members.emplace_back(key, of(member));
      return mapping(std::move(members));
    }
  }
  return none();
}

PEFT_INLINE Json Value::json() const {
  detail::Budget::charge(detail::item_cost + text_.size());
  switch (kind_) {
    case Kind::none:
      return Json();
    case Kind::boolean:
      return Json(integer_ != 0);
    case Kind::integer:
      return Json(integer_);
    case Kind::number:
      return Json(number_);
    case Kind::string:
      return Json(text_);
    case Kind::list: {
      Json array = Json::make_array();
      for (const Value& item : *items_) array.push_back(item.json());
      return array;
    }
    case Kind::mapping: {
      Json object = Json::make_object();
      for (const auto& [key, member] : *members_) {
        detail::Budget::charge(members_->size());  // set() looks for the key
        object.set(key, member.json());
      }
      return object;
    }
    default:
      throw detail::error(described() + " cannot be written as JSON");
  }
}

PEFT_INLINE std::string Value::described() const {
  switch (kind_) {
    case Kind::undefined:
      return text_.empty() ? "an undefined value" : "\"" + text_ + "\", which is undefined,";
    case Kind::none:
      return "none";
    case Kind::boolean:
      return "a boolean";
    case Kind::integer:
      return "an integer";
    case Kind::number:
      return "a number";
    case Kind::string:
      return "a string";
    case Kind::list:
      return "a list";
    case Kind::mapping:
      return "a mapping";
    case Kind::name_space:
      return "a namespace";
    case Kind::function:
      return "a function";
  }
  return "a value";
}

PEFT_INLINE bool Value::truth() const {
  switch (kind_) {
    case Kind::undefined:
    case Kind::none:
      return false;
    case Kind::boolean:
    case Kind::integer:
      return integer_ != 0;
    case Kind::number:
      return number_ != 0;
    case Kind::string:
      return !text_.empty();
    case Kind::list:
      return !items_->empty();
    case Kind::mapping:
      return !members_->empty();
    default:
      return true;
  }
}

PEFT_INLINE std::string Value::printed() const {
  if (kind_ == Kind::undefined) return "";
  detail::Budget::charge(text_.size());
  return kind_ == Kind::string ? text_ : represented();
}

PEFT_INLINE std::string Value::represented() const {
  detail::Budget::charge(detail::step_cost + 2 * text_.size() * std::size_t(depth_ + 1));
  switch (kind_) {
    case Kind::undefined:
      return "Undefined";
    case Kind::none:
      return "None";
    case Kind::boolean:
      return integer_ != 0 ? "True" : "False";
    case Kind::integer:
      return std::to_string(integer_);
    case Kind::number:
      return detail::printed(number_);
    case Kind::string: {
      const char quote = text_.find('\'') != text_.npos && text_.find('"') == text_.npos ? '"' : '\'';
      std::string text(1, quote);
      for (char c : text_) {
        if (c == '\n')
          text += "\\n";
        else if (c == '\r')
          text += "\\r";
        else if (c == '\t')
          text += "\\t";
        else if (c == '\\' || c == quote)
          text += '\\', text += c;
        else
          text += c;
      }
      return text + quote;
    }
    case Kind::list: {
      std::string text = "[";
      for (std::size_t i = 0; i < items_->size(); i++) text += (i > 0 ? ", " : "") + (*items_)[i].represented();
      return text + "]";
    }
    case Kind::mapping: {
      std::string text = "{";
      for (std::size_t i = 0; i < members_->size(); i++)
        text += (i > 0 ? ", " : "") + Value((*members_)[i].first).represented() + ": " + (*members_)[i].second.represented();
      return text + "}";
    }
    case Kind::name_space:
      return "<Namespace>";
    case Kind::function:
      return "<function>";
  }
  return "";
}

PEFT_INLINE std::int64_t Value::integer() const {
  if (kind_ == Kind::integer || kind_ == Kind::boolean) return integer_;
  throw detail::error(described() + " is no integer");
}
PEFT_INLINE double Value::number() const {
  if (kind_ == Kind::number) return number_;
  if (kind_ == Kind::integer || kind_ == Kind::boolean) return static_cast<double>(integer_);
  throw detail::error(described() + " is no number");
}
PEFT_INLINE const std::string& Value::string() const {
  if (kind_ == Kind::string) return text_;
  throw detail::error(described() + " is no string");
}
PEFT_INLINE const Value::List& Value::list() const {
  if (kind_ == Kind::list) return *items_;
  throw detail::error(described() + " is no list");
}
PEFT_INLINE Value::Mapping& Value::members() const {
  if (kind_ == Kind::mapping || kind_ == Kind::name_space) return *members_;
  throw detail::error(described() + " has no members");
}
PEFT_INLINE const Value::Function& Value::callable() const {
  if (kind_ == Kind::function) return *function_;
  throw detail::error(described() + " cannot be called");
}

PEFT_INLINE const Value* Value::member(std::string_view key) const {
  if (members_) detail::Budget::charge(members_->size());
  if (members_)
    for (const auto& [name, value] : *members_)
      if (name == key) return &value;
  return nullptr;
}

PEFT_INLINE Value::List Value::iterated() const {
  List items;
  switch (kind_) {
    case Kind::undefined:
      return items;
    case Kind::list:
      for (const Value& item : *items_) detail::Budget::charge(detail::item_cost + item.text_.size());
      return *items_;
    case Kind::mapping:
      detail::Budget::charge(members_->size() * detail::item_cost);
      for (const auto& [key, value] : *members_) items.emplace_back(key);
      return items;
    case Kind::string:
      detail::Budget::charge(text_.size() * detail::item_cost);
      for (std::string& character : detail::characters(text_)) items.emplace_back(std::move(character));
      return items;
    default:
      throw detail::error(described() + " cannot be iterated over");
  }
}

PEFT_INLINE bool Value::operator==(const Value& other) const {
  detail::Budget::charge(detail::step_cost + text_.size() / detail::step_cost);
  if (is_numeric() && other.is_numeric()) return is(Kind::number) || other.is(Kind::number) ? number() == other.number() : integer_ == other.integer_;
  if (kind_ != other.kind_) return false;
  switch (kind_) {
    case Kind::string:
      return text_ == other.text_;
    case Kind::list:
      return *items_ == *other.items_;
    case Kind::mapping:
      return members_->size() == other.members_->size() && std::all_of(members_->begin(), members_->end(), [&](const auto& entry) {
               const Value* const value = other.member(entry.first);
               return value != nullptr && *value == entry.second;
             });
    case Kind::function:
      return function_ == other.function_;
    case Kind::name_space:
      return members_ == other.members_;
    default:
      return true;
  }
}

PEFT_INLINE bool Value::operator<(const Value& other) const {
  detail::Budget::charge(detail::step_cost + text_.size() / detail::step_cost);
  if (is_numeric() && other.is_numeric()) return is(Kind::number) || other.is(Kind::number) ? number() < other.number() : integer_ < other.integer_;
  if (is(Kind::string) && other.is(Kind::string)) return text_ < other.text_;
  if (is(Kind::list) && other.is(Kind::list)) return std::lexicographical_compare(items_->begin(), items_->end(), other.items_->begin(), other.items_->end());
  throw detail::error(described() + " and " + other.described() + " have no order");
}

}  // namespace peft::jinja
