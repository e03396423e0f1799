// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "peft/core/error.hpp"

namespace peft {

/// A JSON value. Objects keep their order; a wrong type is an error that says what was found and what was wanted.
class Json {
 public:
  enum class Kind { null, boolean, integer, number, string, array, object };
  using Member = std::pair<std::string, Json>;

  Json() = default;
  explicit Json(bool value) : kind_(Kind::boolean), integer_(value) {}
  explicit Json(std::int64_t value) : kind_(Kind::integer), integer_(value) {}
  explicit Json(double value) : kind_(Kind::number), number_(value) {}
  explicit Json(std::string value) : kind_(Kind::string), text_(std::move(value)) {}
  explicit Json(const char* value) : Json(std::string(value)) {}
  static Json make_array() { return Json(Kind::array); }
  static Json make_object() { return Json(Kind::object); }

  /// Throws FormatError (path, byte, reason) for what is not JSON: also for a byte-order mark, invalid UTF-8, a repeated key, and
  /// nesting deeper than 64. An integer beyond 63 bits is a number (transformers writes model_max_length = 10^30), which integer() refuses.
  static Json parse(std::string_view text, std::string_view path);
  static Json read(const std::string& path);

  Kind kind() const { return kind_; }
  bool is_null() const { return kind_ == Kind::null; }
  bool is_boolean() const { return kind_ == Kind::boolean; }
  bool is_integer() const { return kind_ == Kind::integer; }
  bool is_number() const { return kind_ == Kind::integer || kind_ == Kind::number; }
  bool is_string() const { return kind_ == Kind::string; }
  bool is_array() const { return kind_ == Kind::array; }
  bool is_object() const { return kind_ == Kind::object; }

  // Each throws ConfigError if the value is of another kind.
  bool boolean() const;
  std::int64_t integer() const;  // also a number without a fraction
  double number() const;
  const std::string& string() const;
  const std::vector<Json>& array() const;
  const std::vector<Member>& object() const;

  /// Elements of an array or members of an object.
  std::size_t size() const { return kind_ == Kind::object ? members_.size() : items_.size(); }
  /// The member of this name; null if there is none, or this is no object.
  const Json* get(std::string_view key) const;
  bool contains(std::string_view key) const { return get(key) != nullptr; }
  /// Throws ConfigError naming the key and near ones.
  const Json& at(std::string_view key) const;

  /// Adds an element; what was no array becomes one.
  void push_back(Json value) { kind_ = Kind::array, items_.push_back(std::move(value)); }
  /// Adds or replaces a member.
  void set(std::string_view key, Json value);

  /// indent < 0: one line, as Python's json.dumps writes it. With sort_keys and indent 2, byte for byte what PEFT and transformers write.
  std::string dump(int indent = -1, bool sort_keys = false, bool ensure_ascii = true) const;
  bool operator==(const Json& other) const;

 private:
  explicit Json(Kind kind) : kind_(kind) {}
  friend struct JsonReader;
  void build_index() const;
  Kind kind_ = Kind::null;
  std::int64_t integer_ = 0;
  double number_ = 0;
  std::string text_;
  std::vector<Json> items_;
  std::vector<Member> members_;
  // Positions of members sorted by key, for objects with many: built by the parser, dropped by set().
  std::vector<std::uint32_t> index_;
};

/// Writes a file whole or not at all: a temporary file beside it, fsync, rename.
void write_text_atomically(const std::string& path, std::string_view text);

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/io/impl/json.inl"
#endif
