// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <filesystem>

#include "peft/io/gguf.hpp"
#include "peft/io/json.hpp"
#include "peft/tokenizer/chat_template.hpp"
#include "peft/tokenizer/impl/load_gguf.inl"
#include "peft/tokenizer/save.hpp"

namespace peft {

namespace tokenizer::detail {

/// An object of these members, in this order.
inline Json object_of(std::initializer_list<std::pair<const char*, Json>> members) {
  Json object = Json::make_object();
  for (const auto& [key, value] : members) object.set(key, value);
  return object;
}

/// A template as TemplateProcessing has it; null if there is none.
inline Json template_json(const Pipeline& pipeline, const std::vector<std::string_view>& tokens) {
  const auto* const form = dynamic_cast<const Template*>(pipeline.post_processor.get());
  if (form == nullptr) return Json();
  Json specials = Json::make_object();
  const auto steps = [&](const std::vector<Template::Step>& all) {
    Json list = Json::make_array();
    const auto add = [&](const char* kind, const std::string& name, std::int32_t type) {
      list.push_back(object_of({{kind, object_of({{"id", Json(name)}, {"type_id", Json(std::int64_t(type))}})}}));
    };
    for (const Template::Step& step : all) {
      if (step.text >= 0) add("Sequence", step.text == 0 ? "A" : "B", step.type_id);
      for (const std::int32_t id : step.special) {
        const std::string name(tokens[std::size_t(id)]);
        add("SpecialToken", name, step.type_id);
        Json ids = Json::make_array(), names = Json::make_array();
        ids.push_back(Json(std::int64_t(id))), names.push_back(Json(name));
        specials.set(name, object_of({{"id", Json(name)}, {"ids", ids}, {"tokens", names}}));
      }
    }
    return list;
  };
  const Json single = steps(form->single()), pair = steps(form->pair());
  return object_of({{"type", Json("TemplateProcessing")}, {"single", single}, {"pair", pair}, {"special_tokens", specials}});
}

/// A byte-level vocabulary as tokenizer.json, and what Hugging Face keeps in tokenizer_config.json.
inline void save_gguf_tokenizer(const std::string& path, const std::filesystem::path& directory) {
  const GgufFile file = GgufFile::open(path);
  const GgufKeys keys(file);
  if (const std::string kind = keys.string("model", ""); kind != "gpt2")
    throw NotSupported("save_tokenizer", path + ": a vocabulary of the kind \"" + kind + "\" is not supported; supported is gpt2 (byte-level BPE)");
  const Pipeline pipeline = read_gguf(path);
  const GgufPre pre = gguf_pre(keys.string("pre", "default"));
  const auto tokens = keys.at("tokens").strings();

  Json added = Json::make_array(), merges = Json::make_array();
  for (const AddedToken& token : pipeline.added_tokens)
    added.push_back(object_of({{"id", Json(std::int64_t(token.id))},
                               {"content", Json(token.content)},
                               {"single_word", Json(false)},
                               {"lstrip", Json(false)},
                               {"rstrip", Json(false)},
                               {"normalized", Json(false)},
                               {"special", Json(token.special)}}));
  for (const std::string_view merge : keys.at("merges").strings()) merges.push_back(Json(std::string(merge)));
  // By way of text: set() looks for a member of this name, which takes its time with a hundred thousand.
  std::string members = "{";
  for (std::size_t id = 0; id < tokens.size(); id++)
    members += (id ? "," : "") + Json(std::string(tokens[id])).dump(-1, false, false) + ":" + std::to_string(id);
  const Json vocabulary = Json::parse(members + "}", path);

  const Json model = object_of({{"type", Json("BPE")},
                                {"dropout", Json()},
                                {"unk_token", Json()},
                                {"continuing_subword_prefix", Json()},
                                {"end_of_word_suffix", Json()},
                                {"fuse_unk", Json(false)},
                                {"byte_fallback", Json(false)},
                                {"ignore_merges", Json(pre.ignore_merges)},
                                {"vocab", vocabulary},
                                {"merges", merges}});
  const Json tokenizer = object_of({{"version", Json("1.0")},
                                    {"truncation", Json()},
                                    {"padding", Json()},
                                    {"added_tokens", added},
                                    {"normalizer", pre.nfc ? object_of({{"type", Json("NFC")}}) : Json()},
                                    {"pre_tokenizer", pre.pre_tokenizer},
                                    {"post_processor", template_json(pipeline, tokens)},
                                    {"decoder", byte_level_step(true)},
                                    {"model", model}});
  Json config = object_of({{"tokenizer_class", Json("PreTrainedTokenizerFast")}, {"clean_up_tokenization_spaces", Json(false)}});
  for (const auto& [key, id] : {std::pair("bos_token", pipeline.bos_id), std::pair("eos_token", pipeline.eos_id), std::pair("unk_token", pipeline.unk_id),
                                std::pair("pad_token", pipeline.pad_id)})
    if (id) config.set(key, Json(std::string(tokens[std::size_t(*id)])));
  if (!pipeline.chat_template.empty()) config.set("chat_template", Json(pipeline.chat_template));
  write_text_atomically((directory / "tokenizer.json").string(), tokenizer.dump(2, false, false));
  write_text_atomically((directory / "tokenizer_config.json").string(), config.dump(2, true));
}

}  // namespace tokenizer::detail

PEFT_INLINE void save_tokenizer(const std::string& model, const std::string& directory) {
  namespace fs = std::filesystem;
  std::error_code failure;
  fs::create_directories(directory, failure);
  if (failure) throw FormatError(directory, -1, "cannot be created: " + failure.message());
  if (const std::string path = tokenizer::detail::gguf_within(model); !fs::is_directory(path)) return tokenizer::detail::save_gguf_tokenizer(path, directory);
  std::size_t copied = 0;
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja", "vocab.json", "merges.txt",
                           "tokenizer.model", "ice_text.model"})
    if (fs::exists(fs::path(model) / name)) {
      fs::copy_file(fs::path(model) / name, fs::path(directory) / name, fs::copy_options::overwrite_existing, failure);
      if (failure) throw FormatError((fs::path(directory) / name).string(), -1, "cannot be written: " + failure.message());
      copied++;
    }
  if (copied == 0) throw FormatError(model, -1, "no tokenizer is here: neither tokenizer.json nor tokenizer.model");
}

PEFT_INLINE void save_chat_template(const ChatTemplate& chat, const std::string& directory) {
  write_text_atomically((std::filesystem::path(directory) / "chat_template.jinja").string(), chat.text());
}

}  // namespace peft
