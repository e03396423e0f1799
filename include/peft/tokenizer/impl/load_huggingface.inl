// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <fstream>
#include <iterator>

#include "peft/tokenizer/impl/component_json.inl"
#include "peft/tokenizer/impl/post_processor.inl"
#include "peft/tokenizer/make_model.hpp"
#include "peft/tokenizer/pipeline.hpp"

namespace peft::tokenizer::detail {

inline AddedToken added_token_of(const Json& json, std::string_view path) {
  const Component c(json, path, "added token");
  AddedToken token;
  token.id = token_id(c, c.at("id"), "an added token");
  token.content = c.string("content");
  token.special = c.boolean("special", false);
  token.normalized = c.boolean("normalized", !token.special);
  token.single_word = c.boolean("single_word", false);
  token.lstrip = c.boolean("lstrip", false);
  token.rstrip = c.boolean("rstrip", false);
  return token;
}

inline bool is_left(const Component& c) {
  const std::string direction = c.string("direction", "Right");
  if (direction != "Left" && direction != "Right") throw c.error("direction \"" + direction + "\" is unknown; there are Left, Right");
  return direction == "Left";
}

inline Truncation truncation_of(const Component& c) {
  const std::string strategy = c.string("strategy", "LongestFirst");
  Truncation truncation{.max_length = static_cast<std::size_t>(c.integer("max_length", 0, std::int64_t{1} << 40)), .left = is_left(c)};
  if (strategy == "OnlyFirst")
    truncation.strategy = Truncation::Strategy::only_first;
  else if (strategy == "OnlySecond")
    truncation.strategy = Truncation::Strategy::only_second;
  else if (strategy != "LongestFirst")
    throw c.error("strategy \"" + strategy + "\" is unknown; there are LongestFirst, OnlyFirst, OnlySecond");
  return truncation;
}

/// "strategy" is "BatchLongest" or {"Fixed": 128}.
inline Padding padding_of(const Component& c) {
  Padding padding;
  padding.left = is_left(c);
  const auto id = [&](const char* key) { return c.find(key) != nullptr ? static_cast<std::int32_t>(c.integer(key, 0, 2147483646)) : 0; };
  padding.id = id("pad_id"), padding.type_id = id("pad_type_id");
  if (c.find("pad_to_multiple_of") != nullptr) padding.multiple_of = static_cast<std::size_t>(c.integer("pad_to_multiple_of", 0, 1 << 30));
  const Json* const strategy = c.find("strategy");
  if (strategy != nullptr && strategy->is_object())
    padding.length = static_cast<std::size_t>(Component(*strategy, c.path(), "padding strategy").integer("Fixed", 0, std::int64_t{1} << 40));
  else if (strategy != nullptr && (!strategy->is_string() || strategy->string() != "BatchLongest"))
    throw c.error("\"strategy\" must be \"BatchLongest\" or {\"Fixed\": …}");
  return padding;
}

/// The components of a tokenizer.json.
inline Pipeline read_tokenizer_json(const std::string& path) {
  const Json json = Json::read(path);
  const Component whole(json, path, "tokenizer");
  Pipeline pipeline;
  if (whole.find("added_tokens") != nullptr)
    for (const Json& token : whole.list("added_tokens").array()) pipeline.added_tokens.push_back(added_token_of(token, path));
  if (const Json* part = whole.find("normalizer")) pipeline.normalizer = make_normalizer(*part, path);
  if (const Json* part = whole.find("pre_tokenizer")) pipeline.pre_tokenizer = make_pre_tokenizer(*part, path);
  pipeline.model = make_model(whole.at("model"), path);
  if (const Json* part = whole.find("post_processor")) pipeline.post_processor = make_post_processor(*part, path);
  if (const Json* part = whole.find("decoder")) pipeline.decoder = make_decoder(*part, path);
  if (const Json* part = whole.find("truncation")) pipeline.truncation = truncation_of(Component(*part, path, "truncation"));
  if (const Json* part = whole.find("padding")) pipeline.padding = padding_of(Component(*part, path, "padding"));
  return pipeline;
}

/// "bos_token": "<s>" or {"content": "<s>", …}; nothing if it is absent or not a token of this tokenizer.
inline std::optional<std::int32_t> named_token(const Json& json, const char* key, const Pipeline& pipeline) {
  const Json* value = json.get(key);
  if (value != nullptr && value->is_object()) value = value->get("content");
  if (value == nullptr || !value->is_string()) return std::nullopt;
  const std::string name(value->string());
  for (const AddedToken& token : pipeline.added_tokens)
    if (token.content == name) return token.id;
  const std::int32_t id = pipeline.model->vocabulary().id(name);
  return id < 0 ? std::nullopt : std::optional(id);
}

/// "eos_token_id": 2 or [2, 7].
inline std::vector<std::int32_t> ids_of(const Json& json, const char* key, const std::string& path) {
  const Component c(json, path, "configuration");
  const Json* const value = c.find(key);
  std::vector<std::int32_t> ids;
  if (value == nullptr) return ids;
  if (value->is_array()) {
    for (const Json& id : value->array()) ids.push_back(token_id(c, id, key));
  } else {
    ids.push_back(token_id(c, *value, key));
  }
  return ids;
}

/// "chat_template": a text, or a list of {"name", "template"} of which "default" counts.
inline std::string template_text(const Json& json) {
  const Json* const value = json.get("chat_template");
  if (value == nullptr) return {};
  if (value->is_string()) return std::string(value->string());
  if (value->is_array())
    for (const Json& named : value->array()) {
      const Json* const name = named.is_object() ? named.get("name") : nullptr;
      const Json* const text = named.is_object() ? named.get("template") : nullptr;
      if (name != nullptr && text != nullptr && name->is_string() && text->is_string() && name->string() == "default") return std::string(text->string());
    }
  return {};
}

/// What the files beside a tokenizer.json know: which tokens begin, end and pad a text, and the chat template.
inline void read_companions(const std::filesystem::path& folder, Pipeline& pipeline) {
  for (const char* name : {"tokenizer_config.json", "special_tokens_map.json"}) {
    const std::string path = (folder / name).string();
    if (!std::filesystem::exists(path)) continue;
    const Json json = Json::read(path);
    if (!json.is_object()) throw FormatError(path, -1, "is not an object");
    const auto fill = [&](const char* key, std::optional<std::int32_t>& id) {
      if (!id) id = named_token(json, key, pipeline);
    };
    fill("bos_token", pipeline.bos_id), fill("eos_token", pipeline.eos_id), fill("pad_token", pipeline.pad_id), fill("unk_token", pipeline.unk_id);
    if (pipeline.chat_template.empty()) pipeline.chat_template = template_text(json);
  }
  if (const auto path = folder / "chat_template.jinja"; std::filesystem::exists(path)) {  // goes before the one in tokenizer_config.json
    std::ifstream file(path, std::ios::binary);
    pipeline.chat_template.assign(std::istreambuf_iterator<char>(file), {});
    if (!file) throw FormatError(path.string(), -1, "cannot be read");
  } else if (const auto json = folder / "chat_template.json"; std::filesystem::exists(json) && pipeline.chat_template.empty()) {
    pipeline.chat_template = template_text(Json::read(json.string()));
  }
  // generation_config.json goes before config.json, as in transformers' generate.
  for (const char* name : {"generation_config.json", "config.json"}) {
    const std::string path = (folder / name).string();
    if (!std::filesystem::exists(path)) continue;
    const Json json = Json::read(path);
    if (pipeline.eos_ids.empty()) pipeline.eos_ids = ids_of(json, "eos_token_id", path);
    const auto fill = [&](const char* key, std::optional<std::int32_t>& id) {
      if (const std::vector<std::int32_t> ids = ids_of(json, key, path); !id && !ids.empty()) id = ids.front();
    };
    fill("bos_token_id", pipeline.bos_id), fill("pad_token_id", pipeline.pad_id);
    if (!pipeline.eos_id && !pipeline.eos_ids.empty()) pipeline.eos_id = pipeline.eos_ids.front();
  }
}

/// `path` is a directory or a tokenizer.json. A file of another name stands alone.
inline Pipeline read_huggingface(const std::filesystem::path& path) {
  const bool folder = std::filesystem::is_directory(path);
  const std::filesystem::path file = folder ? path / "tokenizer.json" : path;
  if (!std::filesystem::exists(file)) throw FormatError(file.string(), -1, folder ? "there is no tokenizer.json in this directory" : "there is no such file");
  Pipeline pipeline = read_tokenizer_json(file.string());
  if (file.filename() == "tokenizer.json") read_companions(file.parent_path(), pipeline);
  return pipeline;
}

}  // namespace peft::tokenizer::detail
