// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <limits>

#include "peft/tokenizer/impl/component_json.inl"
#include "peft/tokenizer/post_processor.hpp"
#include "peft/tokenizer/unicode.hpp"

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

/// "single" and "pair" are lists of {"SpecialToken": {"id": name, "type_id": 0}} and {"Sequence": {"id": "A", "type_id": 0}}; "special_tokens" gives the
/// ids of a name.
inline std::vector<Template::Step> template_steps(const Component& c, const char* key) {
  std::vector<Template::Step> steps;
  const std::string where = std::string("\"") + key + "\"";
  for (const Json& item : c.list(key).array()) {
    const Json* const sequence = item.is_object() ? item.get("Sequence") : nullptr;
    const Json* const special = item.is_object() ? item.get("SpecialToken") : nullptr;
    const Json* const part = sequence != nullptr ? sequence : special;
    const Json* const id = part != nullptr && part->is_object() ? part->get("id") : nullptr;
    if (id == nullptr || !id->is_string()) throw c.error("an item of " + where + " is neither {\"SpecialToken\": …} nor {\"Sequence\": …}");
    Template::Step step;
    const std::string& name = id->string();
    if (const Json* const type = part->get("type_id")) step.type_id = token_id(c, *type, where + "'s \"type_id\"");
    if (sequence != nullptr) {
      if (name != "A" && name != "B") throw c.error(where + " has the sequence \"" + name + "\"; there are A and B");
      step.text = name == "A" ? 0 : 1;
    } else {
      const Json* const specials = c.find("special_tokens");
      const Json* const entry = specials != nullptr && specials->is_object() ? specials->get(name) : nullptr;
      const Json* const ids = entry != nullptr && entry->is_object() ? entry->get("ids") : nullptr;
      if (ids == nullptr || !ids->is_array()) throw c.error(where + " names the special token \"" + name + "\", which \"special_tokens\" does not define");
      for (const Json& one : ids->array()) step.special.push_back(token_id(c, one, "\"" + name + "\""));
    }
    steps.push_back(std::move(step));
  }
  return steps;
}

inline PostProcessorPtr template_of(const Component& c) {
  std::vector<Template::Step> single = template_steps(c, "single"), pair;
  if (c.find("pair") != nullptr) pair = template_steps(c, "pair");
  const auto uses = [](const std::vector<Template::Step>& steps, int text) {
    return std::count_if(steps.begin(), steps.end(), [text](const Template::Step& step) { return step.text == text; });
  };
  if (uses(single, 0) != 1 || uses(single, 1) != 0) throw c.error("\"single\" must have the sequence A once");
  if (!pair.empty() && (uses(pair, 0) != 1 || uses(pair, 1) != 1)) throw c.error("\"pair\" must have the sequences A and B once each");
  return std::make_unique<Template>(std::move(single), std::move(pair));
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
  if (type == "ByteLevel") return c.boolean("trim_offsets", true) ? std::make_unique<TrimOffsets>(c.boolean("add_prefix_space", true)) : nullptr;
  if (type == "TemplateProcessing") return template_of(c);
  if (type == "BertProcessing") {
    const Template::Step cls{.special = {named_id(c, "cls")}}, sep{.special = {named_id(c, "sep")}}, sep_b{.special = sep.special, .type_id = 1};
    return std::make_unique<Template>(std::vector<Template::Step>{cls, {.text = 0}, sep},
                                      std::vector<Template::Step>{cls, {.text = 0}, sep, {.text = 1, .type_id = 1}, sep_b}, Template::Types::only_with_special);
  }
  if (type == "RobertaProcessing") {  // all in one segment
    const Template::Step cls{.special = {named_id(c, "cls")}}, sep{.special = {named_id(c, "sep")}};
    std::vector<PostProcessorPtr> steps;
    if (c.boolean("trim_offsets", true)) steps.push_back(std::make_unique<TrimOffsets>(c.boolean("add_prefix_space", true)));
    steps.push_back(std::make_unique<Template>(std::vector<Template::Step>{cls, {.text = 0}, sep},
                                               std::vector<Template::Step>{cls, {.text = 0}, sep, sep, {.text = 1}, sep}));
    return std::make_unique<PostProcessorSequence>(std::move(steps));
  }
  throw c.unknown({"Sequence", "ByteLevel", "TemplateProcessing", "BertProcessing", "RobertaProcessing"});
}

}  // namespace detail

PEFT_INLINE Template::Template(std::vector<std::int32_t> before, std::vector<std::int32_t> after) {
  for (std::int32_t text = 0; text < 2; text++) {
    if (!before.empty()) pair_.push_back({.special = before, .type_id = text});
    pair_.push_back({.text = text, .type_id = text});
    if (!after.empty()) pair_.push_back({.special = after, .type_id = text});
    if (text == 0) single_ = pair_;
  }
}

PEFT_INLINE void Template::apply(std::vector<Part>& parts, const Context& context) const {
  if (!context.add_special_tokens && types_ == Types::only_with_special) return;
  // What an earlier step has put around the texts stays around them: a template in a sequence meets the texts alone.
  const auto texts = static_cast<std::size_t>(std::count_if(parts.begin(), parts.end(), [](const Part& part) { return !part.special; }));
  if (texts > 1 && pair_.empty()) throw Error("tokenizer.post_processor", "this tokenizer's template has no form for pairs of texts");
  std::vector<Part> arranged;
  for (const Step& step : texts > 1 ? pair_ : single_) {
    if (step.text < 0) {
      if (context.add_special_tokens)
        arranged.push_back({.ids = step.special, .offsets = std::vector<Offsets>(step.special.size()), .type_id = step.type_id, .special = true});
      continue;
    }
    int seen = 0;
    for (Part& part : parts)
      if (!part.special && seen++ == step.text) {
        arranged.push_back(std::move(part));
        arranged.back().type_id = step.type_id;
        break;
      }
  }
  parts.swap(arranged);
}

PEFT_INLINE Spaces spaces_around(std::string_view token) {
  const auto is_space = [](char32_t c) { return unicode::visible_to_byte(c) == ' ' || unicode::is(c, unicode::space); };
  Spaces spaces{0, 0};
  std::size_t begin = 0, end = token.size();
  for (; begin < end && is_space(unicode::decode(token, begin).value); spaces.leading++) begin += unicode::decode(token, begin).length;
  if (begin == end) spaces.trailing = spaces.leading;
  for (; end > begin && is_space(unicode::decode_before(token, end).value); spaces.trailing++) end -= unicode::decode_before(token, end).length;
  return spaces;
}

PEFT_INLINE void TrimOffsets::apply(std::vector<Part>& parts, const Context& context) const {
  for (Part& part : parts) {
    if (part.special || context.vocabulary == nullptr) continue;
    for (std::size_t i = 0; i < part.offsets.size(); i++) {
      const bool matched = !part.spaces.empty() && part.spaces[i].leading >= 0;
      const Spaces spaces = matched ? part.spaces[i] : spaces_around(context.vocabulary->token(part.ids[i]));
      auto leading = static_cast<std::size_t>(spaces.leading);
      const auto trailing = static_cast<std::size_t>(spaces.trailing);
      Offsets& offsets = part.offsets[i];
      if (leading == 1 && add_prefix_space_ && (i == 0 || offsets.begin == 0)) leading = 0;  // it was put there
      offsets.begin = std::min(offsets.begin + leading, offsets.end);
      if (offsets.end >= trailing) offsets.end = std::max(offsets.end - trailing, offsets.begin);
    }
  }
}

PEFT_INLINE PostProcessorPtr make_post_processor(const Json& json, std::string_view path) { return detail::post_processor_of(json, path, 0); }

}  // namespace peft::tokenizer
