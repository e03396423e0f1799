// SPDX-License-Identifier: Apache-2.0
#pragma once

// Byte-level BPE as GGUF's vocabulary of the kind "gpt2".

#include <string>
#include <vector>

#include "peft/tokenizer/impl/gguf_cuts.inl"
#include "peft/tokenizer/impl/gguf_tokens.inl"
#include "peft/tokenizer/impl/model.inl"

namespace peft::tokenizer::detail {

/// A value as a message shows it.
inline std::string shown(const Json* value) {
  const std::string text = value ? value->dump(-1, false, false) : "null";
  return text.size() <= 300 ? text : text.substr(0, 300) + "…";
}

/// Into the file: how the text is cut, by name, tokens, types and merges.
inline void write_gguf_byte_level(GgufFileWriter& w, const std::string& path, const Json& tokenizer, const GgufTokens& tokens) {
  constexpr const char* kind = "gpt2";
  const Component model(tokenizer.at("model"), path, "model");
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"})
    if (const std::string text = model.string(key, ""); !text.empty()) throw no_gguf_form(path, std::string(key) + " \"" + text + "\"", kind);
  const Json* const decoder = tokenizer.get("decoder");
  if (!decoder || !decoder->get("type") || *decoder->get("type") != Json("ByteLevel")) throw no_gguf_form(path, "the decoder " + shown(decoder), kind);
  const Json* const normalizer = tokenizer.get("normalizer");
  const bool nfc = normalizer && normalizer->get("type") && *normalizer->get("type") == Json("NFC");
  if (normalizer && !normalizer->is_null() && !nfc) throw no_gguf_form(path, "the normalizer " + shown(normalizer), kind);
  const bool ignore_merges = model.boolean("ignore_merges", false);
  const std::string pre = gguf_pre_name(cuts_of(tokenizer.get("pre_tokenizer")), nfc, ignore_merges);
  if (pre.empty())
    throw no_gguf_form(
        path, "the pre_tokenizer " + shown(tokenizer.get("pre_tokenizer")) + (nfc ? " behind NFC" : "") + (ignore_merges ? ", with ignore_merges," : ""), kind);
  std::vector<std::string> merges;
  for (const Json& item : model.list("merges").array()) {
    const auto [left, right] = merge_parts(model, item, merges.size());
    for (const std::string_view part : {left, right})
      if (part.find(' ') != part.npos) throw no_gguf_form(path, "the space in merge " + std::to_string(merges.size()), kind);
    merges.push_back(std::string(left) + " " + std::string(right));
  }
  tokens.write(w, path, kind);
  w.text("tokenizer.ggml.pre", pre), w.texts("tokenizer.ggml.merges", merges);
}

}  // namespace peft::tokenizer::detail
