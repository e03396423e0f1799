// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <limits>

#include "peft/tokenizer/impl/component_json.inl"
#include "peft/tokenizer/post_processor.hpp"

namespace peft::tokenizer {
namespace detail {

inline std::int32_t token_id(const Component& c, const Json& json, const std::string& what) {
  std::int64_t id = -1;
  try {
    id = json.integer();
  } catch (const Error&) {
    throw c.error("the id of " + what + " is not an integer");
  }
  if (id < 0 || id >= std::numeric_limits<std::int32_t>::max()) throw c.error("the id of " + what + " is " + std::to_string(id) + "; ids are 0 to 2147483646");
  return static_cast<std::int32_t>(id);
}

/// "single" is a list of {"SpecialToken": {"id": name}} and {"Sequence": {"id": "A"}}; "special_tokens" gives the ids of a name.
inline PostProcessorPtr template_of(const Component& c) {
  std::vector<std::int32_t> before, after;
  bool seen = false;
  for (const Json& item : c.list("single").array()) {
    const Json* const sequence = item.is_object() ? item.get("Sequence") : nullptr;
    if (sequence != nullptr) {
      const Json* const name = sequence->is_object() ? sequence->get("id") : nullptr;
      if (seen || name == nullptr || !name->is_string() || std::string(name->string()) != "A") throw c.error("\"single\" must have the sequence A once");
      seen = true;
      continue;
    }
    const Json* const special = item.is_object() ? item.get("SpecialToken") : nullptr;
    const Json* const name = special != nullptr && special->is_object() ? special->get("id") : nullptr;
    if (name == nullptr || !name->is_string()) throw c.error("an item of \"single\" is neither {\"SpecialToken\": …} nor {\"Sequence\": …}");
    const std::string token(name->string());
    const Json* const specials = c.find("special_tokens");
    const Json* const entry = specials != nullptr && specials->is_object() ? specials->get(token) : nullptr;
    const Json* const ids = entry != nullptr && entry->is_object() ? entry->get("ids") : nullptr;
    if (ids == nullptr || !ids->is_array()) throw c.error("\"single\" names the special token \"" + token + "\", which \"special_tokens\" does not define");
    for (const Json& id : ids->array()) (seen ? after : before).push_back(token_id(c, id, "\"" + token + "\""));
  }
  if (!seen) throw c.error("\"single\" must have the sequence A once");
  return std::make_unique<Template>(std::move(before), std::move(after));
}

/// ["[CLS]", 101]
inline std::int32_t named_id(const Component& c, const char* key) {
  const Json& pair = c.list(key);
  std::int32_t id = -1;
  int i = 0;
  for (const Json& item : pair.array())
    if (i++ == 1) id = token_id(c, item, key);
  if (i != 2) throw c.error(std::string("\"") + key + "\" must be [token, id]");
  return id;
}

inline PostProcessorPtr post_processor_of(const Json& json, std::string_view path, int depth) {
  if (json.is_null()) return nullptr;
  Component c(json, path, "post_processor");
  const std::string type = c.type();
  if (type == "Sequence") return std::make_unique<PostProcessorSequence>(make_steps<PostProcessorPtr>(c, "processors", post_processor_of, depth));
  if (type == "ByteLevel") return nullptr;  // concerns offsets alone
  if (type == "TemplateProcessing") return template_of(c);
  if (type == "BertProcessing" || type == "RobertaProcessing")
    return std::make_unique<Template>(std::vector<std::int32_t>{named_id(c, "cls")}, std::vector<std::int32_t>{named_id(c, "sep")});
  throw c.unknown({"Sequence", "ByteLevel", "TemplateProcessing", "BertProcessing", "RobertaProcessing"});
}

}  // namespace detail

PEFT_INLINE PostProcessorPtr make_post_processor(const Json& json, std::string_view path) { return detail::post_processor_of(json, path, 0); }

}  // namespace peft::tokenizer
