// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

#include "peft/io/atomic_file.hpp"
#include "peft/io/json.hpp"
#include "peft/io/mapped_file.hpp"

namespace peft {

// Builds the value from nlohmann's events, so that repeated keys and depth are seen as they come.
struct JsonReader {
  static constexpr std::size_t max_depth = 64;
  std::string_view path;
  std::size_t bytes = 0;
  Json root;
  std::vector<Json*> open;
  std::vector<std::string> keys;  // of the open objects: the member being read

  [[noreturn]] void fail(std::size_t byte, const std::string& reason) const { throw FormatError(path, std::int64_t(byte), reason); }
  Json* place(Json value) {
    if (open.empty()) {
      root = std::move(value);
      return &root;
    }
    Json& top = *open.back();
    if (top.is_array()) {
      top.items_.push_back(std::move(value));
      return &top.items_.back();
    }
    top.members_.emplace_back(std::move(keys.back()), std::move(value));
    return &top.members_.back().second;
  }
  bool null() { return place(Json()), true; }
  bool boolean(bool v) { return place(Json(v)), true; }
  bool number_integer(std::int64_t v) { return place(Json(v)), true; }
  bool number_unsigned(std::uint64_t v) { return place(v > std::uint64_t(INT64_MAX) ? Json(double(v)) : Json(std::int64_t(v))), true; }
  bool number_float(double v, const std::string&) { return place(Json(v)), true; }  // also an integer beyond 64 bits
  bool string(std::string& v) { return place(Json(std::move(v))), true; }
  bool binary(nlohmann::json::binary_t&) { return false; }
  bool start(Json::Kind kind) {
    if (open.size() >= max_depth) fail(bytes, "nested deeper than " + std::to_string(max_depth));
    Json* value = place(Json(kind));
    open.push_back(value), keys.emplace_back();
    return true;
  }
  bool end() {
    Json& top = *open.back();
    if (top.is_object()) {
      top.build_index();
      for (std::size_t i = 1; i < top.index_.size(); i++)
        if (top.members_[top.index_[i - 1]].first == top.members_[top.index_[i]].first)
          fail(bytes, "the key \"" + top.members_[top.index_[i]].first + "\" stands twice in one object");
      if (top.members_.size() < 16) top.index_.clear();
    }
    open.pop_back(), keys.pop_back();
    return true;
  }
  bool start_object(std::size_t) { return start(Json::Kind::object); }
  bool end_object() { return end(); }
  bool start_array(std::size_t) { return start(Json::Kind::array); }
  bool end_array() { return end(); }
  bool key(std::string& v) { return keys.back() = std::move(v), true; }
  bool parse_error(std::size_t byte, const std::string&, const nlohmann::json::exception& error) {
    std::string text = error.what();
    if (const auto colon = text.find("] "); colon != std::string::npos) text = text.substr(colon + 2);
    fail(byte > 0 ? byte - 1 : 0, "not JSON: " + text);  // nlohmann counts from one
  }
};

namespace detail {
// Feeds the parser and knows how far it has come.
struct CountingIterator {
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;
  const char* at = nullptr;
  const char* begin = nullptr;
  std::size_t* count = nullptr;
  reference operator*() const { return *at; }
  CountingIterator& operator++() {
    ++at;
    if (count) *count = std::size_t(at - begin);
    return *this;
  }
  CountingIterator operator++(int) {
    CountingIterator old = *this;
    ++*this;
    return old;
  }
  bool operator==(const CountingIterator& other) const { return at == other.at; }
};

PEFT_INLINE const char* kind_name(Json::Kind kind) {
  switch (kind) {
    case Json::Kind::null:
      return "null";
    case Json::Kind::boolean:
      return "true or false";
    case Json::Kind::integer:
      return "an integer";
    case Json::Kind::number:
      return "a number";
    case Json::Kind::string:
      return "a string";
    case Json::Kind::array:
      return "a list";
    case Json::Kind::object:
      return "an object";
  }
  return "";
}

[[noreturn]] PEFT_INLINE void wrong_kind(const Json& found, Json::Kind wanted) {
  std::string text = found.dump();
  if (text.size() > 40) text = text.substr(0, 40) + "…";
  throw ConfigError("json", std::string("found ") + kind_name(found.kind()) + " (" + text + "), wanted " + kind_name(wanted));
}
}  // namespace detail

PEFT_INLINE Json Json::parse(std::string_view text, std::string_view path) {
  if (text.starts_with("\xEF\xBB\xBF")) throw FormatError(path, 0, "not JSON: a byte-order mark");
  // nlohmann takes a NUL for the end, whatever follows.
  if (const std::size_t nul = text.find('\0'); nul != text.npos) throw FormatError(path, std::int64_t(nul), "not JSON: a NUL byte");
  JsonReader reader;
  reader.path = path;
  const detail::CountingIterator begin{text.data(), text.data(), &reader.bytes}, end{text.data() + text.size(), nullptr, nullptr};
  nlohmann::json::sax_parse(begin, end, &reader);
  return std::move(reader.root);
}

PEFT_INLINE Json Json::read(const std::string& path) {
  const auto file = MappedFile::open(path);
  return parse({reinterpret_cast<const char*>(file->data()), file->size()}, path);
}

PEFT_INLINE void Json::build_index() const {
  auto& index = const_cast<Json*>(this)->index_;
  index.resize(members_.size());
  std::iota(index.begin(), index.end(), 0u);
  std::sort(index.begin(), index.end(), [&](std::uint32_t a, std::uint32_t b) { return members_[a].first < members_[b].first; });
}

PEFT_INLINE bool Json::boolean() const {
  if (kind_ != Kind::boolean) detail::wrong_kind(*this, Kind::boolean);
  return integer_ != 0;
}
PEFT_INLINE std::int64_t Json::integer() const {
  if (kind_ == Kind::integer) return integer_;
  if (kind_ == Kind::number && number_ == std::floor(number_) && std::abs(number_) < 0x1p53) return std::int64_t(number_);
  detail::wrong_kind(*this, Kind::integer);
}
PEFT_INLINE double Json::number() const {
  if (kind_ == Kind::integer) return double(integer_);
  if (kind_ != Kind::number) detail::wrong_kind(*this, Kind::number);
  return number_;
}
PEFT_INLINE const std::string& Json::string() const {
  if (kind_ != Kind::string) detail::wrong_kind(*this, Kind::string);
  return text_;
}
PEFT_INLINE const std::vector<Json>& Json::array() const {
  if (kind_ != Kind::array) detail::wrong_kind(*this, Kind::array);
  return items_;
}
PEFT_INLINE const std::vector<Json::Member>& Json::object() const {
  if (kind_ != Kind::object) detail::wrong_kind(*this, Kind::object);
  return members_;
}

PEFT_INLINE const Json* Json::get(std::string_view key) const {
  if (index_.size() == members_.size() && !index_.empty()) {
    const auto found = std::lower_bound(index_.begin(), index_.end(), key, [&](std::uint32_t i, std::string_view k) { return members_[i].first < k; });
    return found != index_.end() && members_[*found].first == key ? &members_[*found].second : nullptr;
  }
  for (const Member& member : members_)
    if (member.first == key) return &member.second;
  return nullptr;
}

PEFT_INLINE const Json& Json::at(std::string_view key) const {
  if (const Json* found = get(key)) return *found;
  if (kind_ != Kind::object) detail::wrong_kind(*this, Kind::object);
  std::vector<std::string> keys;
  for (const Member& member : members_) keys.push_back(member.first);
  throw ConfigError("json", "the key \"" + std::string(key) + "\" is missing" + did_you_mean(key, keys, "keys here"));
}

PEFT_INLINE void Json::set(std::string_view key, Json value) {
  kind_ = Kind::object;
  index_.clear();
  for (Member& member : members_)
    if (member.first == key) {
      member.second = std::move(value);
      return;
    }
  members_.emplace_back(std::string(key), std::move(value));
}

PEFT_INLINE bool Json::operator==(const Json& other) const {
  if (kind_ != other.kind_) return is_number() && other.is_number() && number() == other.number();
  switch (kind_) {
    case Kind::null:
      return true;
    case Kind::boolean:
    case Kind::integer:
      return integer_ == other.integer_;
    case Kind::number:
      return number_ == other.number_;
    case Kind::string:
      return text_ == other.text_;
    case Kind::array:
      return items_ == other.items_;
    case Kind::object:
      break;
  }
  if (members_.size() != other.members_.size()) return false;
  return std::all_of(members_.begin(), members_.end(), [&](const Member& m) {
    const Json* there = other.get(m.first);
    return there && m.second == *there;
  });
}

namespace detail {

// As Python's repr of a float: the shortest digits that read back the same, an exponent below 1e-4 and from 1e16 on.
PEFT_INLINE std::string python_float(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
  char digits[40];
  const auto [end, code] = std::to_chars(digits, digits + sizeof digits, value, std::chars_format::scientific);
  (void)code;
  const std::string scientific(digits, end);
  const std::size_t e = scientific.find('e');
  const int exponent = std::stoi(scientific.substr(e + 1));
  if (value != 0 && (exponent < -4 || exponent >= 16)) return scientific;
  const auto fixed_end = std::to_chars(digits, digits + sizeof digits, value, std::chars_format::fixed).ptr;
  std::string fixed(digits, fixed_end);
  return fixed.find('.') == std::string::npos ? fixed + ".0" : fixed;
}

PEFT_INLINE void write_json(std::string& out, const Json& value, int indent, int depth, bool sort_keys, bool ensure_ascii) {
  const auto newline = [&](int level) {
    if (indent >= 0) out += '\n', out.append(std::size_t(indent) * std::size_t(level), ' ');
  };
  const char* const comma = indent >= 0 ? "," : ", ";
  switch (value.kind()) {
    case Json::Kind::null:
      out += "null";
      return;
    case Json::Kind::boolean:
      out += value.boolean() ? "true" : "false";
      return;
    case Json::Kind::integer:
      out += std::to_string(value.integer());
      return;
    case Json::Kind::number:
      out += python_float(value.number());
      return;
    case Json::Kind::string:
      out += nlohmann::json(value.string()).dump(-1, ' ', ensure_ascii, nlohmann::json::error_handler_t::replace);
      return;
    case Json::Kind::array: {
      if (value.size() == 0) {
        out += "[]";
        return;
      }
      out += '[';
      bool first = true;
      for (const Json& item : value.array()) {
        if (!first) out += comma;
        first = false;
        newline(depth + 1);
        write_json(out, item, indent, depth + 1, sort_keys, ensure_ascii);
      }
      newline(depth);
      out += ']';
      return;
    }
    case Json::Kind::object: {
      if (value.size() == 0) {
        out += "{}";
        return;
      }
      std::vector<const Json::Member*> members;
      for (const auto& member : value.object()) members.push_back(&member);
      if (sort_keys) std::sort(members.begin(), members.end(), [](auto* a, auto* b) { return a->first < b->first; });
      out += '{';
      bool first = true;
      for (const auto* member : members) {
        if (!first) out += comma;
        first = false;
        newline(depth + 1);
        out += nlohmann::json(member->first).dump(-1, ' ', ensure_ascii, nlohmann::json::error_handler_t::replace) + ": ";
        write_json(out, member->second, indent, depth + 1, sort_keys, ensure_ascii);
      }
      newline(depth);
      out += '}';
    }
  }
}

}  // namespace detail

PEFT_INLINE std::string Json::dump(int indent, bool sort_keys, bool ensure_ascii) const {
  std::string out;
  detail::write_json(out, *this, indent, 0, sort_keys, ensure_ascii);
  return out;
}

PEFT_INLINE void write_text_atomically(const std::string& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text.data(), text.size());
  file.commit();
}

}  // namespace peft
