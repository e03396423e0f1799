// SPDX-License-Identifier: Apache-2.0
#pragma once

// Which name GGUF has for the way in which a tokenizer.json cuts a text.

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "peft/tokenizer/impl/gguf_names.inl"

namespace peft::tokenizer::detail {

/// What a pre_tokenizer does, in one spelling for all that say the same: sequences are laid flat, ByteLevel's own cut and Digits are splits, and to keep
/// what an expression that leaves nothing out finds is to cut at it. trim_offsets changes no ids.
inline void add_cuts(const Json& step, std::vector<std::string>& cuts) {
  if (step.is_null()) return;
  const std::string type = step.at("type").string();
  const auto flag = [&](const char* key, bool otherwise) {
    const Json* const value = step.get(key);
    return value && !value->is_null() ? value->boolean() : otherwise;
  };
  const auto cut_at = [&](std::string_view words) { cuts.push_back("Isolated " + std::string(words)); };
  if (type == "Sequence") {
    for (const Json& inner : step.at("pretokenizers").array()) add_cuts(inner, cuts);
  } else if (type == "ByteLevel") {
    if (flag("add_prefix_space", true)) cuts.emplace_back("a space in front");
    if (flag("use_regex", true)) cut_at(gpt2_words);
    cuts.emplace_back("bytes");
  } else if (type == "Digits") {
    cut_at(flag("individual_digits", false) ? "\\p{N}" : "\\p{N}+");
  } else if (const Json* const pattern = step.get("pattern"); type == "Split" && pattern && pattern->get("Regex")) {
    const std::string words = pattern->at("Regex").string(), behavior = step.at("behavior").string();
    const bool whole = words == gpt2_words || words == llama3_words || words == qwen2_words, invert = flag("invert", false);
    if ((behavior == "Isolated" && (!invert || whole)) || (behavior == "Removed" && invert && whole))
      cut_at(words);
    else
      cuts.push_back(behavior + (invert ? " but " : " ") + words);
  } else {
    cuts.push_back(step.dump());
  }
}
inline std::vector<std::string> cuts_of(const Json* pre_tokenizer) {
  std::vector<std::string> cuts;
  if (pre_tokenizer) add_cuts(*pre_tokenizer, cuts);
  return cuts;
}

/// tokenizer.ggml.pre of a byte-level BPE. Empty if GGUF has no name for it.
inline std::string gguf_pre_name(const std::vector<std::string>& cuts, bool nfc, bool ignore_merges) {
  for (const std::string& name : gguf_pre_names()) {
    const GgufPre pre = gguf_pre(name);
    if (pre.nfc == nfc && pre.ignore_merges == ignore_merges && cuts_of(&pre.pre_tokenizer) == cuts) return name;
  }
  return {};
}

}  // namespace peft::tokenizer::detail
