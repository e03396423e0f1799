// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fmt/core.h>

#include <algorithm>
#include <string>
#include <vector>

#include "peft/generate/constraint.hpp"
#include "peft/io/json.hpp"

namespace peft {

namespace detail {

/// A JSON schema as a regular expression.
class SchemaWriter {
 public:
  explicit SchemaWriter(const Json& root) : root_(root) {}
  std::string write() { return value(root_, "the schema"); }

 private:
  static constexpr const char* character = R"((?:[^"\\\x00-\x1F]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4}))";
  static constexpr const char* integer = "(?:-?(?:0|[1-9][0-9]{0,17}))";
  static constexpr const char* number = R"((?:-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,17})?(?:[eE][+-]?[0-9]{1,2})?))";
  static constexpr const char* gap = " ?";  // behind , and :
  static constexpr int free_depth = 3;

  [[noreturn]] static void fail(const std::string& where, const std::string& what) { throw ConfigError("json_schema", where + ": " + what); }
  [[noreturn]] static void unbuilt(const std::string& where, const std::string& what) { throw NotSupported("json_schema", where + ": " + what); }

  static std::string literal(const std::string& text) {
    std::string escaped;
    for (char c : text) {
      if (std::string_view(R"(\.[](){}*+?|^$/-")").find(c) != std::string_view::npos) escaped += '\\';
      escaped += c;
    }
    return escaped;
  }
  static std::string text(const Json& value) { return literal(value.dump(-1, false, false)); }
  static std::string any_of(const std::vector<std::string>& all) {
    std::string joined = "(?:";
    for (std::size_t i = 0; i < all.size(); i++) joined += (i > 0 ? "|" : "") + all[i];
    return joined + ")";
  }
  static std::int64_t count(const Json& schema, const char* key, std::int64_t otherwise, const std::string& where) {
    const Json* value = schema.get(key);
    if (!value) return otherwise;
    if (!value->is_number() || value->number() < 0 || value->number() > 100000 || value->number() != double(std::int64_t(value->number())))
      fail(where, fmt::format("{} = {}; allowed: 0 to 100000", key, value->dump()));
    return std::int64_t(value->number());
  }
  // " {n,m}", most < 0: no limit
  static std::string times(std::int64_t least, std::int64_t most) {
    if (most < 0) return least == 0 ? "*" : fmt::format("{{{},}}", least);
    return fmt::format("{{{},{}}}", least, most);
  }

  // What a keyword that is not read here would do is not known: it is refused, unless it says nothing about what is valid.
  static void check_keywords(const Json& schema, std::initializer_list<const char*> read, const std::string& where) {
    static const std::vector<std::string> notes = {
        "$schema",  "$id",       "$comment", "title",       "description",          "default", "examples", "deprecated",
        "readOnly", "writeOnly", "$defs",    "definitions", "additionalProperties", "$anchor"};
    for (const auto& [name, value] : schema.object()) {
      const std::string& key = name;
      if (std::any_of(read.begin(), read.end(), [&](const char* k) { return key == k; }) || std::find(notes.begin(), notes.end(), key) != notes.end()) continue;
      unbuilt(where, "the keyword \"" + key + "\" is not built here");
    }
  }

  std::string value(const Json& schema, const std::string& where) {
    if (++depth_ > 64) unbuilt(where, "a schema that refers to itself, or nests deeper than 64");
    std::string made = of_schema(schema, where);
    depth_--;
    return made;
  }
  std::string of_schema(const Json& schema, const std::string& where) {
    if (schema.is_boolean()) {
      if (!schema.boolean()) fail(where, "false allows nothing");
      return anything(free_depth);
    }
    if (!schema.is_object()) fail(where, "a schema is an object, here is " + schema.dump().substr(0, 40));
    if (const Json* reference = schema.get("$ref")) {
      check_keywords(schema, {"$ref"}, where);
      return value(resolve(reference->string(), where), reference->string());
    }
    if (const Json* fixed = schema.get("const")) return check_keywords(schema, {"const", "type"}, where), text(*fixed);
    if (const Json* choices = schema.get("enum")) {
      check_keywords(schema, {"enum", "type"}, where);
      if (!choices->is_array() || choices->size() == 0) fail(where, "enum wants a list of values that is not empty");
      std::vector<std::string> all;
      for (const Json& one : choices->array()) all.push_back(text(one));
      return any_of(all);
    }
    for (const char* key : {"anyOf", "oneOf"})
      if (const Json* choices = schema.get(key)) {
        check_keywords(schema, {key}, where);
        if (!choices->is_array() || choices->size() == 0) fail(where, std::string(key) + " wants a list of schemas that is not empty");
        std::vector<std::string> all;
        for (const Json& one : choices->array()) all.push_back(value(one, where + "." + key));
        return any_of(all);
      }
    const Json* type = schema.get("type");
    if (!type) {
      if (schema.contains("properties")) return of_type("object", schema, where);
      if (schema.contains("items")) return of_type("array", schema, where);
      check_keywords(schema, {}, where);
      return anything(free_depth);
    }
    if (type->is_string()) return of_type(type->string(), schema, where);
    if (!type->is_array() || type->size() == 0) fail(where, "type wants a name or a list of names");
    std::vector<std::string> all;
    for (const Json& one : type->array()) all.push_back(of_type(one.string(), schema, where, true));
    return any_of(all);
  }

  std::string of_type(const std::string& type, const Json& schema, const std::string& where, bool one_of_several = false) {
    const auto check = [&](std::initializer_list<const char*> read) {
      if (!one_of_several) check_keywords(schema, read, where);
    };
    if (one_of_several)
      check_keywords(schema, {"type", "minLength", "maxLength", "pattern", "format", "items", "minItems", "maxItems", "properties", "required"}, where);
    if (type == "null") return check({"type"}), "null";
    if (type == "boolean") return check({"type"}), "(?:true|false)";
    if (type == "integer") return check({"type"}), integer;
    if (type == "number") return check({"type"}), number;
    if (type == "string") return check({"type", "minLength", "maxLength", "pattern", "format"}), string(schema, where);
    if (type == "array") return check({"type", "items", "minItems", "maxItems"}), array(schema, where);
    if (type == "object") return check({"type", "properties", "required"}), object(schema, where);
    const std::vector<std::string> types = {"null", "boolean", "integer", "number", "string", "array", "object"};
    fail(where, "type = \"" + type + "\"" + did_you_mean(type, types, "types"));
  }

  std::string string(const Json& schema, const std::string& where) const {
    const bool counted = schema.contains("minLength") || schema.contains("maxLength");
    if (const Json* format = schema.get("format")) {
      if (counted || schema.contains("pattern")) unbuilt(where, "format together with minLength, maxLength or pattern");
      const std::string date = "[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])", hex = "[0-9a-f]";
      const std::string time = R"((?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9]))";
      if (format->string() == "date") return "\"" + date + "\"";
      if (format->string() == "time") return "\"" + time + "\"";
      if (format->string() == "date-time") return "\"" + date + "T" + time + "\"";
      if (format->string() == "uuid") return "\"" + hex + "{8}-" + hex + "{4}-" + hex + "{4}-" + hex + "{4}-" + hex + "{12}\"";
      const std::vector<std::string> formats = {"date", "time", "date-time", "uuid"};
      unbuilt(where, "format = \"" + format->string() + "\"" + did_you_mean(format->string(), formats, "formats here"));
    }
    if (const Json* pattern = schema.get("pattern")) {
      if (counted) unbuilt(where, "pattern together with minLength or maxLength");
      // As it is, between the quotes: it must not match what JSON would escape. Anchors say that the whole is meant, as it is here anyway.
      std::string inner = pattern->string();
      if (inner.starts_with('^')) inner.erase(0, 1);
      if (inner.ends_with('$') && !inner.ends_with("\\$")) inner.pop_back();
      return "\"(?:" + inner + ")\"";
    }
    const std::int64_t least = count(schema, "minLength", 0, where), most = count(schema, "maxLength", -1, where);
    if (most >= 0 && most < least) fail(where, fmt::format("maxLength = {} is less than minLength = {}", most, least));
    return "\"" + (std::string(character) + times(least, most)) + "\"";
  }

  std::string array(const Json& schema, const std::string& where) {
    const Json* items = schema.get("items");
    const std::int64_t least = count(schema, "minItems", 0, where), most = count(schema, "maxItems", -1, where);
    if (most >= 0 && most < least) fail(where, fmt::format("maxItems = {} is less than minItems = {}", most, least));
    if (most == 0) return R"(\[\])";
    const std::string one = items ? value(*items, where + ".items") : anything(free_depth - 1);
    const std::string some = one + "(?:," + gap + one + ")" + times(std::max<std::int64_t>(least - 1, 0), most < 0 ? -1 : most - 1);
    return R"(\[)" + (least == 0 ? "(?:" + some + ")?" : some) + R"(\])";
  }

  std::string object(const Json& schema, const std::string& where) {
    const Json* properties = schema.get("properties");
    if (const Json* more = schema.get("additionalProperties"); more && !(more->is_boolean()) && properties)
      unbuilt(where, "additionalProperties with a schema of its own beside properties");
    if (!properties) {
      const Json* more = schema.get("additionalProperties");
      return free_object(more && more->is_object() ? value(*more, where + ".additionalProperties") : anything(free_depth - 1));
    }
    std::vector<std::string> required;
    if (const Json* list = schema.get("required"))
      for (const Json& name : list->array()) {
        required.push_back(name.string());
        if (!properties->contains(required.back())) {
          std::vector<std::string> names;
          for (const auto& [key, unused] : properties->object()) names.push_back(key), (void)unused;
          fail(where, "required names \"" + required.back() + "\", which is no property" + did_you_mean(required.back(), names, "properties"));
        }
      }
    // The first property that is there, and then each of the others with its comma, or not.
    std::vector<std::string> members;
    std::vector<bool> needed;
    for (const auto& [name, of] : properties->object()) {
      members.push_back(text(Json(name)) + ":" + gap + value(of, where + "." + name));
      needed.push_back(std::find(required.begin(), required.end(), name) != required.end());
    }
    std::vector<std::string> ways;
    bool all_optional = true;
    for (std::size_t first = 0; first < members.size() && all_optional; first++) {
      std::string way = members[first];
      for (std::size_t i = first + 1; i < members.size(); i++) way += "(?:," + std::string(gap) + members[i] + ")" + (needed[i] ? "" : "?");
      ways.push_back(std::move(way));
      all_optional = !needed[first];
    }
    if (ways.empty()) return R"(\{\})";
    return R"(\{)" + any_of(ways) + (all_optional ? "?" : "") + R"(\})";
  }

  static std::string free_object(const std::string& of) {
    const std::string member = "\"" + std::string(character) + "*\":" + gap + of;
    return R"(\{(?:)" + member + "(?:," + gap + member + R"()*)?\})";
  }
  // Any value that nests so deep.
  static std::string anything(int depth) {
    std::vector<std::string> all = {"null", "true", "false", number, "\"" + std::string(character) + "*\""};
    if (depth > 0) {
      const std::string inner = anything(depth - 1);
      all.push_back(free_object(inner));
      all.push_back(R"(\[(?:)" + inner + "(?:," + gap + inner + R"()*)?\])");
    }
    return any_of(all);
  }

  // "#/$defs/name"
  const Json& resolve(const std::string& reference, const std::string& where) const {
    if (reference == "#") return root_;
    if (!reference.starts_with("#/")) unbuilt(where, "$ref = \"" + reference + "\"; allowed: references into the schema, \"#/$defs/…\"");
    const Json* at = &root_;
    for (std::size_t from = 2; from <= reference.size();) {
      const std::size_t end = std::min(reference.find('/', from), reference.size());
      const Json* inner = at->get(reference.substr(from, end - from));
      if (!inner) fail(where, "$ref = \"" + reference + "\" leads nowhere");
      at = inner, from = end + 1;
    }
    return *at;
  }

  const Json& root_;
  int depth_ = 0;
};

}  // namespace detail

PEFT_INLINE std::string json_schema_regex(const Json& schema) { return detail::SchemaWriter(schema).write(); }

PEFT_INLINE std::shared_ptr<const TokenConstraint> constrain_to_json_schema(const Tokenizer& tokenizer, const Json& schema) {
  return constrain_to_regex(tokenizer, json_schema_regex(schema));
}

}  // namespace peft
