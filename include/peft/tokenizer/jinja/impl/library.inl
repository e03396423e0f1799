// SPDX-License-Identifier: Apache-2.0
#pragma once

// Methods of strings and mappings, filters, tests and functions: what each is in Python or Jinja, under the same name.

#include <algorithm>
#include <cmath>
#include <ctime>
#include <limits>
#include <numeric>

#include "peft/core/error.hpp"
#include "peft/tokenizer/jinja/impl/value.inl"
#include "peft/tokenizer/unicode.hpp"

namespace peft::jinja::detail {

inline bool is_space(std::string_view character) {
  return unicode::is(unicode::decode(character, 0).value, unicode::space) || (character[0] >= 0x1C && character[0] <= 0x1F);
}

/// Without `characters`, white space.
inline std::string stripped(std::string_view text, const Value* characters, bool left, bool right) {
  const std::vector<std::string> all = detail::characters(text);
  const bool blanks = characters == nullptr || characters->is(Value::Kind::none);
  const std::vector<std::string> set = blanks ? std::vector<std::string>{} : detail::characters(characters->string());
  const auto drops = [&](const std::string& c) {
    Budget::charge(set.size());
    return blanks ? is_space(c) : std::find(set.begin(), set.end(), c) != set.end();
  };
  std::size_t begin = 0, end = all.size();
  while (left && begin < end && drops(all[begin])) begin++;
  while (right && end > begin && drops(all[end - 1])) end--;
  return std::accumulate(all.begin() + static_cast<std::ptrdiff_t>(begin), all.begin() + static_cast<std::ptrdiff_t>(end), std::string());
}

/// Looking for a part of a text, which may begin nearly everywhere.
inline void charge_search(std::string_view text, std::string_view part) { Budget::charge(text.size() * (1 + part.size() / 16)); }

inline std::string replaced(const std::string& text, const std::string& from, const std::string& to, std::int64_t most = -1) {
  if (from.empty()) throw error("replace: the text to be replaced is empty");
  charge_search(text, from);
  std::string result;
  std::size_t done = 0;
  for (std::size_t at = text.find(from); at != text.npos && most != 0; at = text.find(from, done), most--) {
    Budget::charge(at - done + to.size());
    result.append(text, done, at - done).append(to);
    done = at + from.size();
  }
  return result.append(text, done);
}

inline std::string cased(std::string_view text, bool upper) {
  std::string result;
  for (std::size_t at = 0; at < text.size();) {
    const unicode::Character c = unicode::decode(text, at);
    if (upper)
      unicode::append_uppercase(result, c.value);
    else
      unicode::append_lowercase(result, c.value);
    at += c.length;
  }
  return result;
}
/// The first letter of the text, or of every word, in upper case, the rest in lower.
inline std::string capitalized(std::string_view text, bool words) {
  std::string result;
  bool first = true;
  for (const std::string& c : characters(text)) {
    result += cased(c, first);
    first = words && !unicode::is(unicode::decode(c, 0).value, unicode::letter);
  }
  return result;
}

inline Value::List split(std::string_view text, const Value* separator, std::int64_t most, bool from_right) {
  Value::List parts;
  const auto add = [&](std::string part) {
    Budget::charge(item_cost + part.size());
    parts.emplace_back(std::move(part));
  };
  if (separator == nullptr || separator->is(Value::Kind::none)) {  // at runs of white space
    std::string word;
    const std::vector<std::string> all = characters(text);
    for (std::size_t i = 0; i < all.size(); i++) {
      if (!is_space(all[i])) {
        if (word.empty() && most >= 0 && !from_right && static_cast<std::int64_t>(parts.size()) == most) {
          add(stripped(std::accumulate(all.begin() + static_cast<std::ptrdiff_t>(i), all.end(), std::string()), nullptr, false, true));
          return parts;
        }
        word += all[i];
      } else if (!word.empty()) {
        add(std::exchange(word, {}));
      }
    }
    if (!word.empty()) add(word);
    return parts;
  }
  const std::string& mark = separator->string();
  if (mark.empty()) throw error("split: the separator is empty");
  charge_search(text, mark);
  if (from_right) {
    for (std::size_t at = text.rfind(mark); at != text.npos && most != 0; at = text.rfind(mark), most--) {
      add(std::string(text.substr(at + mark.size())));
      text = text.substr(0, at);
    }
    add(std::string(text));
    std::reverse(parts.begin(), parts.end());
    return parts;
  }
  for (std::size_t at = text.find(mark); at != text.npos && most != 0; at = text.find(mark), most--) {
    add(std::string(text.substr(0, at)));
    text.remove_prefix(at + mark.size());
  }
  add(std::string(text));
  return parts;
}

inline std::int64_t integer_argument(const Arguments& a, std::size_t place, std::string_view name, std::int64_t otherwise) {
  const Value* const value = a.find(place, name);
  return value == nullptr || value->is(Value::Kind::none) ? otherwise : value->integer();
}
inline const Value& argument(const Arguments& a, std::size_t place, std::string_view name) {
  if (const Value* const value = a.find(place, name)) return *value;
  throw error("the argument \"" + std::string(name) + "\" is missing");
}

inline std::int64_t length(const Value& value) {
  switch (value.kind()) {
    case Value::Kind::undefined:
      return 0;
    case Value::Kind::string:
      return static_cast<std::int64_t>(characters(value.string()).size());
    case Value::Kind::list:
      return static_cast<std::int64_t>(value.list().size());
    case Value::Kind::mapping:
      return static_cast<std::int64_t>(value.members().size());
    default:
      throw error(value.described() + " has no length");
  }
}

inline bool contains(const Value& whole, const Value& part) {
  if (whole.is(Value::Kind::string)) charge_search(whole.string(), part.string());
  if (whole.is(Value::Kind::string)) return whole.string().find(part.string()) != std::string::npos;
  if (whole.is(Value::Kind::mapping)) return part.is(Value::Kind::string) && whole.member(part.string()) != nullptr;
  const Value::List items = whole.iterated();
  return std::find(items.begin(), items.end(), part) != items.end();
}

/// The method `name` of a value, undefined if there is none.
inline Value method(const Value& of, const std::string& name) {
  Budget::charge(3 * of.text_size());
  const auto method_of = [&](auto f) { return Value::function(Value::Function(f), of.depth() + 1); };
  if (of.is(Value::Kind::string)) {
    const std::string text = of.string();
    if (name == "strip") return method_of([text](const Arguments& a) { return Value(stripped(text, a.find(0, "chars"), true, true)); });
    if (name == "lstrip") return method_of([text](const Arguments& a) { return Value(stripped(text, a.find(0, "chars"), true, false)); });
    if (name == "rstrip") return method_of([text](const Arguments& a) { return Value(stripped(text, a.find(0, "chars"), false, true)); });
    if (name == "upper" || name == "lower") return method_of([text, name](const Arguments&) { return Value(cased(text, name == "upper")); });
    if (name == "title" || name == "capitalize") return method_of([text, name](const Arguments&) { return Value(capitalized(text, name == "title")); });
    if (name == "split" || name == "rsplit")
      return method_of(
          [text, name](const Arguments& a) { return Value(split(text, a.find(0, "sep"), integer_argument(a, 1, "maxsplit", -1), name == "rsplit")); });
    if (name == "splitlines")
      return method_of([text](const Arguments&) {
        Value::List lines = split(text, nullptr, 0, false);
        lines.clear();
        std::string line;
        for (std::size_t i = 0; i < text.size(); i++) {
          if (text[i] != '\n' && text[i] != '\r') {
            line += text[i];
            continue;
          }
          if (text[i] == '\r' && i + 1 < text.size() && text[i + 1] == '\n') i++;
          lines.emplace_back(std::exchange(line, {}));
        }
        if (!line.empty()) lines.emplace_back(line);
        return Value(std::move(lines));
      });
    if (name == "startswith" || name == "endswith")
      return method_of([text, name](const Arguments& a) {
        const Value& wanted = argument(a, 0, "prefix");
        const Value::List all = wanted.is(Value::Kind::list) ? wanted.iterated() : Value::List{wanted};
        return Value(std::any_of(all.begin(), all.end(),
                                 [&](const Value& v) { return name == "startswith" ? text.starts_with(v.string()) : text.ends_with(v.string()); }));
      });
    if (name == "replace")
      return method_of([text](const Arguments& a) {
        return Value(replaced(text, argument(a, 0, "old").string(), argument(a, 1, "new").string(), integer_argument(a, 2, "count", -1)));
      });
    if (name == "removeprefix" || name == "removesuffix")
      return method_of([text, name](const Arguments& a) {
        const std::string& part = argument(a, 0, "prefix").string();
        if (name == "removeprefix") return Value(text.starts_with(part) ? text.substr(part.size()) : text);
        return Value(text.ends_with(part) ? text.substr(0, text.size() - part.size()) : text);
      });
    if (name == "find" || name == "rfind" || name == "index")
      return method_of([text, name](const Arguments& a) {
        charge_search(text, argument(a, 0, "sub").string());
        const std::size_t at = name == "rfind" ? text.rfind(argument(a, 0, "sub").string()) : text.find(argument(a, 0, "sub").string());
        if (at == text.npos && name == "index") throw error("index: the part is not in the text");
        return Value(at == text.npos ? std::int64_t{-1} : static_cast<std::int64_t>(characters(std::string_view(text).substr(0, at)).size()));
      });
    if (name == "count")
      return method_of([text](const Arguments& a) { return Value(static_cast<std::int64_t>(split(text, &argument(a, 0, "sub"), -1, false).size()) - 1); });
    if (name == "join")
      return method_of([text](const Arguments& a) {
        std::string all;
        bool first = true;
        for (const Value& item : argument(a, 0, "iterable").iterated()) {
          Budget::charge(2 * text.size());
          all += (first ? "" : text) + item.string(), first = false;
        }
        return Value(all);
      });
    if (name == "isdigit" || name == "isalpha" || name == "isspace" || name == "isalnum")
      return method_of([text, name](const Arguments&) {
        const std::uint8_t mask = name == "isdigit"   ? unicode::decimal
                                  : name == "isalpha" ? unicode::letter
                                  : name == "isspace" ? unicode::space
                                                      : unicode::letter | unicode::number;
        const std::vector<std::string> all = characters(text);
        return Value(!all.empty() && std::all_of(all.begin(), all.end(), [&](const std::string& c) { return unicode::is(unicode::decode(c, 0).value, mask); }));
      });
    if (name == "isupper" || name == "islower")
      return method_of([text, name](const Arguments&) { return Value(text == cased(text, name == "isupper") && cased(text, true) != cased(text, false)); });
  }
  if (of.is(Value::Kind::mapping)) {
    if (name == "items")
      return method_of([of](const Arguments&) {
        Value::List items;
        for (const auto& [key, value] : of.members()) items.push_back(Value(Value::List{Value(key), value}));
        return Value(std::move(items));
      });
    if (name == "keys") return method_of([of](const Arguments&) { return Value(of.iterated()); });
    if (name == "values")
      return method_of([of](const Arguments&) {
        Value::List values;
        for (const auto& [key, value] : of.members()) values.push_back(value);
        return Value(std::move(values));
      });
    if (name == "get")
      return method_of([of](const Arguments& a) {
        const Value& key = argument(a, 0, "key");
        const Value* const found = key.is(Value::Kind::string) ? of.member(key.string()) : nullptr;
        const Value* const otherwise = a.find(1, "default");
        return found != nullptr ? *found : otherwise != nullptr ? *otherwise : Value::none();
      });
  }
  if (of.is(Value::Kind::list)) {
    if (name == "index" || name == "count")
      return method_of([of, name](const Arguments& a) {
        const Value& wanted = argument(a, 0, "value");
        const Value::List& all = of.list();
        if (name == "count") return Value(static_cast<std::int64_t>(std::count(all.begin(), all.end(), wanted)));
        const auto at = std::find(all.begin(), all.end(), wanted);
        if (at == all.end()) throw error("index: the value is not in the list");
        return Value(static_cast<std::int64_t>(at - all.begin()));
      });
    if (name == "append" || name == "extend" || name == "insert" || name == "pop" || name == "remove" || name == "sort" || name == "reverse" || name == "clear")
      throw error("the list method " + name + " changes a list, which templates may not; write list + [item]");
  }
  return Value::undefined(name);
}

/// Blanks that stand in front of the lines of a value; stops where there are too many.
inline std::size_t indentation(const Value& value, std::size_t width, std::size_t level) {
  std::size_t blanks = 0;
  const auto add = [&](const Value& part) {
    Budget::charge(step_cost);
    blanks += width * level + indentation(part, width, level + 1);
  };
  if (value.is(Value::Kind::list))
    for (const Value& item : value.list()) add(item);
  if (value.is(Value::Kind::mapping))
    for (const auto& [name, member] : value.members()) add(member);
  return blanks;
}

inline std::string as_json(const Value& value, const Arguments& a) {
  const Value* const sort = a.find(3, "sort_keys");
  const Value* const ascii = a.find(0, "ensure_ascii");  // transformers' order: ensure_ascii, indent, separators, sort_keys
  const Value* indent = nullptr;
  for (const auto& [name, named] : a.named)
    if (name == "indent") indent = &named;
  if (indent == nullptr && a.positional.size() > 1) indent = &a.positional[1];
  const int width = indent == nullptr || indent->is(Value::Kind::none) ? -1 : static_cast<int>(std::clamp<std::int64_t>(indent->integer(), 0, 64));
  if (width > 0) Budget::charge(indentation(value, static_cast<std::size_t>(width), 1));
  return value.json().dump(width, sort != nullptr && sort->truth(), ascii != nullptr && ascii->truth());
}

/// The result of the test `name`.
inline bool test(const Value& value, const std::string& name, const Arguments& a) {
  Budget::charge(step_cost);
  using Kind = Value::Kind;
  const auto other = [&]() -> const Value& { return argument(a, 0, "other"); };
  if (name == "defined") return !value.is(Kind::undefined);
  if (name == "undefined") return value.is(Kind::undefined);
  if (name == "none") return value.is(Kind::none);
  if (name == "string") return value.is(Kind::string);
  if (name == "number") return value.is_numeric();
  if (name == "integer") return value.is(Kind::integer);
  if (name == "float") return value.is(Kind::number);
  if (name == "boolean") return value.is(Kind::boolean);
  if (name == "true") return value.is(Kind::boolean) && value.truth();
  if (name == "false") return value.is(Kind::boolean) && !value.truth();
  if (name == "mapping") return value.is(Kind::mapping);
  if (name == "iterable") return value.is(Kind::undefined) || value.is(Kind::string) || value.is(Kind::list) || value.is(Kind::mapping);
  if (name == "sequence") return value.is(Kind::undefined) || value.is(Kind::string) || value.is(Kind::list) || value.is(Kind::mapping);
  if (name == "callable") return value.is(Kind::function);
  if (name == "eq" || name == "equalto" || name == "==") return value == other();
  if (name == "ne" || name == "!=") return !(value == other());
  if (name == "sameas") return value.kind() == other().kind() && value == other();
  if (name == "lt" || name == "lessthan" || name == "<") return value < other();
  if (name == "gt" || name == "greaterthan" || name == ">") return other() < value;
  if (name == "le" || name == "<=") return !(other() < value);
  if (name == "ge" || name == ">=") return !(value < other());
  if (name == "in") return contains(other(), value);
  if (name == "odd") return value.integer() % 2 != 0;
  if (name == "even") return value.integer() % 2 == 0;
  if (name == "divisibleby") {
    if (other().integer() == 0) throw error("divisibleby: division by zero");
    return other().integer() == -1 || value.integer() % other().integer() == 0;
  }
  if (name == "upper" || name == "lower") return method(Value(value.printed()), "is" + name).callable()({}).truth();
  const std::vector<std::string> known = {"defined", "undefined", "none",     "string",   "number",   "integer", "float",      "boolean", "true",
                                          "false",   "mapping",   "iterable", "sequence", "callable", "eq",      "ne",         "sameas",  "lt",
                                          "gt",      "le",        "ge",       "in",       "odd",      "even",    "divisibleby"};
  throw error("the test \"" + name + "\" is unknown" + did_you_mean(name, known, "there are", 32));
}

/// value.a.b of a path "a.b"; numbers index lists.
inline Value attribute(Value value, const std::string& path) {
  for (const Value& step : split(path, std::make_unique<Value>(".").get(), -1, false)) {
    const std::string& key = step.string();
    if (value.is(Value::Kind::list) && !key.empty() && key.find_first_not_of("0123456789") == key.npos && key.size() < 10) {
      const std::size_t i = std::stoul(key);
      value = i < value.list().size() ? value.list()[i] : Value::undefined(key);
    } else {
      const Value* const found = value.member(key);
      value = found != nullptr ? Value(*found) : Value::undefined(key);
    }
  }
  return value;
}

/// A number without what stands behind its point.
inline Value whole_number(double value) {
  if (!(std::abs(value) < 9223372036854775807.0)) throw error("a result is beyond 64 bits");
  return Value(static_cast<std::int64_t>(value));
}

inline Value filter(const Value& value, const std::string& name, const Arguments& a);

/// map, select, reject, selectattr, rejectattr
inline Value picked(const Value& value, const std::string& name, const Arguments& a) {
  Value::List result;
  if (name == "map") {
    const Value* const path = a.positional.empty() ? a.find(0, "attribute") : nullptr;
    const Value* const otherwise = a.positional.empty() ? a.find(1, "default") : nullptr;
    Arguments rest;
    if (!a.positional.empty()) rest = {Value::List(a.positional.begin() + 1, a.positional.end()), a.named};
    for (const Value& item : value.iterated()) {
      Value mapped = path != nullptr ? attribute(item, path->printed()) : filter(item, argument(a, 0, "filter").string(), rest);
      if (otherwise != nullptr && mapped.is(Value::Kind::undefined)) mapped = *otherwise;
      result.push_back(std::move(mapped));
    }
    return Value(std::move(result));
  }
  const bool of_attribute = name.ends_with("attr"), keeps = name.starts_with("select");
  const std::size_t at = of_attribute ? 1 : 0;
  Arguments rest;
  if (a.positional.size() > at + 1) rest.positional.assign(a.positional.begin() + static_cast<std::ptrdiff_t>(at) + 1, a.positional.end());
  for (const Value& item : value.iterated()) {
    const Value tested = of_attribute ? attribute(item, argument(a, 0, "attribute").printed()) : item;
    const bool holds = a.positional.size() > at ? test(tested, a.positional[at].string(), rest) : tested.truth();
    if (holds == keeps) result.push_back(item);
  }
  return Value(std::move(result));
}

/// What sort, unique, min, max and dictsort compare by: letters without their case, unless told.
inline Value sort_key(const Value& item, const Arguments& a, std::size_t case_place) {
  Budget::charge(step_cost + 4 * item.text_size());
  const Value* path = nullptr;
  for (const auto& [key, value] : a.named)
    if (key == "attribute") path = &value;
  const Value key = path != nullptr && !path->is(Value::Kind::none) ? attribute(item, path->printed()) : item;
  const Value* const cased_too = a.find(case_place, "case_sensitive");
  return key.is(Value::Kind::string) && !(cased_too != nullptr && cased_too->truth()) ? Value(cased(key.string(), false)) : key;
}

inline Value filter(const Value& value, const std::string& name, const Arguments& a) {
  Budget::charge(step_cost + value.text_size());
  using Kind = Value::Kind;
  if (name == "trim") return Value(stripped(value.printed(), a.find(0, "chars"), true, true));
  if (name == "upper" || name == "lower") return Value(cased(value.printed(), name == "upper"));
  if (name == "title" || name == "capitalize") return Value(capitalized(value.printed(), name == "title"));
  if (name == "string" || name == "safe") return Value(value.printed());
  if (name == "length" || name == "count") return Value(length(value));
  if (name == "tojson") return Value(as_json(value, a));
  if (name == "default" || name == "d") {
    const Value* const also_false = a.find(1, "boolean");
    const bool given = !value.is(Kind::undefined) && (also_false == nullptr || !also_false->truth() || value.truth());
    const Value* const otherwise = a.find(0, "default_value");
    return given ? value : otherwise != nullptr ? *otherwise : Value("");
  }
  if (name == "join") {
    const Value *const mark = a.find(0, "d"), *const path = a.find(1, "attribute");
    std::string all;
    bool first = true;
    for (const Value& item : value.iterated()) {  // printed() counts what it costs
      if (!first && mark != nullptr) all += mark->printed();
      all += path != nullptr ? attribute(item, path->printed()).printed() : item.printed();
      first = false;
    }
    return Value(all);
  }
  if (name == "replace")
    return Value(replaced(value.printed(), argument(a, 0, "old").printed(), argument(a, 1, "new").printed(), integer_argument(a, 2, "count", -1)));
  if (name == "first" || name == "last") {
    const Value::List items = value.iterated();
    return items.empty() ? Value::undefined(name) : name == "first" ? items.front() : items.back();
  }
  if (name == "list") return Value(value.iterated());
  if (name == "int" || name == "float") {
    const Value* const otherwise = a.find(0, "default");
    if (value.is_numeric()) return name == "float" ? Value(value.number()) : value.is(Kind::number) ? whole_number(value.number()) : Value(value.integer());
    if (value.is(Kind::string)) {
      const std::string text = stripped(value.string(), nullptr, true, true);
      char* end = nullptr;
      const double number = std::strtod(text.c_str(), &end);
      if (!text.empty() && *end == '\0' && std::isfinite(number)) return name == "float" ? Value(number) : whole_number(number);
    }
    return otherwise != nullptr ? *otherwise : name == "float" ? Value(0.0) : Value(std::int64_t{0});
  }
  if (name == "abs") {
    if (value.is(Kind::number)) return Value(std::abs(value.number()));
    if (value.integer() == std::numeric_limits<std::int64_t>::min()) throw error("a result is beyond 64 bits");
    return Value(std::abs(value.integer()));
  }
  if (name == "round") {
    const double scale = std::pow(10.0, static_cast<double>(integer_argument(a, 0, "precision", 0)));
    const Value* const how = a.find(1, "method");
    const std::string method = how != nullptr ? how->string() : "common";
    const double scaled = value.number() * scale;
    return Value((method == "ceil" ? std::ceil(scaled) : method == "floor" ? std::floor(scaled) : std::nearbyint(scaled)) / scale);
  }
  if (name == "items") {
    if (value.is(Kind::undefined)) return Value(Value::List{});
    if (!value.is(Kind::mapping)) throw error("items: " + value.described() + " is no mapping");
    return method(value, "items").callable()({});
  }
  if (name == "dictsort") {
    Value::Mapping members = value.members();
    std::stable_sort(members.begin(), members.end(), [](const auto& x, const auto& y) { return cased(x.first, false) < cased(y.first, false); });
    return method(Value::mapping(std::move(members)), "items").callable()({});
  }
  if (name == "reverse") {
    Value::List items = value.iterated();
    std::reverse(items.begin(), items.end());
    if (!value.is(Kind::string)) return Value(std::move(items));
    std::string text;
    for (const Value& item : items) text += item.string();
    return Value(text);
  }
  if (name == "sort") {
    Value::List items = value.iterated();
    const Value* const descending = a.find(0, "reverse");
    const bool down = descending != nullptr && descending->truth();
    std::stable_sort(items.begin(), items.end(),
                     [&](const Value& x, const Value& y) { return down ? sort_key(y, a, 1) < sort_key(x, a, 1) : sort_key(x, a, 1) < sort_key(y, a, 1); });
    return Value(std::move(items));
  }
  if (name == "unique") {
    Value::List kept, keys;
    for (const Value& item : value.iterated())
      if (Value key = sort_key(item, a, 0); std::find(keys.begin(), keys.end(), key) == keys.end()) kept.push_back(item), keys.push_back(std::move(key));
    return Value(std::move(kept));
  }
  if (name == "min" || name == "max") {
    const Value::List items = value.iterated();
    if (items.empty()) return Value::undefined(name);
    const auto less = [&](const Value& x, const Value& y) { return sort_key(x, a, 0) < sort_key(y, a, 0); };
    return name == "min" ? *std::min_element(items.begin(), items.end(), less) : *std::max_element(items.begin(), items.end(), less);
  }
  if (name == "sum") {
    double total = 0;
    bool whole = true;
    const Value* const path = a.find(0, "attribute");
    for (const Value& item : value.iterated()) {
      const Value one = path != nullptr ? attribute(item, path->printed()) : item;
      total += one.number(), whole = whole && !one.is(Kind::number);
    }
    return whole ? whole_number(total) : Value(total);
  }
  if (name == "indent") {
    const Value *const width = a.find(0, "width"), *const first = a.find(1, "first"), *const blank = a.find(2, "blank");
    const std::string margin = width != nullptr && width->is(Kind::string)
                                   ? width->string()
                                   : std::string(static_cast<std::size_t>(std::clamp<std::int64_t>(integer_argument(a, 0, "width", 4), 0, 1000)), ' ');
    const Value newline("\n");
    std::string all;
    std::size_t i = 0;
    for (const Value& line : split(value.printed(), &newline, -1, false)) {
      Budget::charge(2 * margin.size() + line.text_size());
      const bool empty = line.string().empty(), indented = i == 0 ? first != nullptr && first->truth() : !empty || (blank != nullptr && blank->truth());
      all += (i > 0 ? "\n" : "") + (indented ? margin : std::string()) + line.string();
      i++;
    }
    return Value(all);
  }
  if (name == "wordcount") return Value(static_cast<std::int64_t>(split(value.printed(), nullptr, -1, false).size()));
  if (name == "escape" || name == "e") {
    std::string text;
    for (char c : value.printed()) {
      if (c == '&')
        text += "&amp;";
      else if (c == '<')
        text += "&lt;";
      else if (c == '>')
        text += "&gt;";
      else if (c == '"')
        text += "&#34;";
      else if (c == '\'')
        text += "&#39;";
      else
        text += c;
    }
    return Value(text);
  }
  if (name == "map" || name == "select" || name == "reject" || name == "selectattr" || name == "rejectattr") return picked(value, name, a);
  const std::vector<std::string> known = {"trim",    "upper",     "lower",    "title",   "capitalize", "string", "safe",       "length",    "tojson",
                                          "default", "join",      "replace",  "first",   "last",       "list",   "int",        "float",     "abs",
                                          "round",   "items",     "dictsort", "reverse", "sort",       "unique", "min",        "max",       "sum",
                                          "indent",  "wordcount", "escape",   "map",     "select",     "reject", "selectattr", "rejectattr"};
  throw error("the filter \"" + name + "\" is unknown" + did_you_mean(name, known, "there are", 40));
}

/// range, dict, namespace, raise_exception, strftime_now
inline Value::Mapping functions() {
  Value::Mapping all;
  all.emplace_back("range", Value::function([](const Arguments& a) {
                     const bool one = a.positional.size() < 2;
                     const std::int64_t first = one ? 0 : a.positional[0].integer(), last = argument(a, one ? 0 : 1, "stop").integer(),
                                        step = integer_argument(a, 2, "step", 1);
                     if (step == 0) throw error("range: the step is 0");
                     Value::List items;
                     for (std::int64_t i = first; step > 0 ? i < last : i > last;) {
                       if (items.size() >= 100000) throw error("range: more than 100000 numbers");
                       items.emplace_back(i);
                       if (__builtin_add_overflow(i, step, &i)) break;
                     }
                     return Value(std::move(items));
                   }));
  const auto members = [](Value::Kind kind) {
    return Value::function([kind](const Arguments& a) {
      Value::Mapping made = a.positional.empty() ? Value::Mapping{} : a.positional[0].members();
      for (const auto& entry : a.named) {
        Budget::charge(made.size());
        std::erase_if(made, [&](const auto& member) { return member.first == entry.first; });
        made.push_back(entry);
      }
      return Value::mapping(std::move(made), kind);
    });
  };
  all.emplace_back("dict", members(Value::Kind::mapping));
  all.emplace_back("namespace", members(Value::Kind::name_space));
  all.emplace_back("raise_exception",
                   Value::function([](const Arguments& a) -> Value { throw error("the template refuses: " + argument(a, 0, "message").printed()); }));
  all.emplace_back("strftime_now", Value::function([](const Arguments& a) {
                     const std::time_t now = std::time(nullptr);
                     std::tm local{};
                     localtime_r(&now, &local);
                     const std::string& format = argument(a, 0, "format").string();
                     Budget::charge(16 * format.size());
                     std::string text(256 + 16 * format.size(), '\0');
                     text.resize(std::strftime(text.data(), text.size(), format.c_str(), &local));
                     return Value(text);
                   }));
  return all;
}

}  // namespace peft::jinja::detail
