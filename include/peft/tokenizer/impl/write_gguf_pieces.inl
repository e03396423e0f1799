// SPDX-License-Identifier: Apache-2.0
#pragma once

// BPE of the kind of sentencepiece as GGUF's vocabulary of the kind "llama": of all neighbours that together are a token, those whose token has the highest
// score are merged first. A tokenizer.json lists merges instead, each with the two tokens that it takes.

#include <algorithm>
#include <string>
#include <unordered_map>
#include <vector>

#include "peft/tokenizer/impl/byte_tokens.inl"
#include "peft/tokenizer/impl/gguf_cuts.inl"
#include "peft/tokenizer/impl/gguf_tokens.inl"
#include "peft/tokenizer/impl/model.inl"
#include "peft/tokenizer/impl/write_gguf_byte_level.inl"
#include "peft/tokenizer/unicode.hpp"

namespace peft::tokenizer::detail {

/// The scores that give what the merges give. Neighbours a and b that together are a token t can only stand in a text where nothing has merged across the
/// ends of t, and there all has gone as it goes with t alone: (a, b) are what t alone comes to in the end but one. So a score must say of t what rank that
/// last merge has; and where t alone ends as two tokens, since its merge is not in the list, scores would merge what the list does not.
class ScoresOfMerges {
 public:
  ScoresOfMerges(const Component& model, const Vocabulary& vocabulary) : vocabulary_(vocabulary) {
    for (const Json& item : model.list("merges").array()) {
      const auto [left, right] = merge_parts(model, item, count_);
      const Merge merge = merge_of(vocabulary, left, right, count_++, 0);
      ranks_[pair_key(merge.left, merge.right)] = merge;
    }
  }
  std::size_t count() const { return count_; }

  struct End {
    std::size_t tokens = 0;      // that the text has come to
    std::int64_t last_rank = 0;  // of the last merge
    bool known = true;           // whether all characters are tokens
  };
  /// The merges, applied to a text by itself.
  End run(std::string_view text) const {
    End end;
    std::vector<std::int32_t> ids;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t length = std::min<std::size_t>(unicode::decode(text, at).length, text.size() - at);
      ids.push_back(vocabulary_.id(text.substr(at, length)));
      end.known = end.known && ids.back() >= 0;
      at += length;
    }
    while (end.known) {
      std::size_t best = ids.size();
      Merge merge{};
      for (std::size_t i = 0; i + 1 < ids.size(); i++)
        if (const auto found = ranks_.find(pair_key(ids[i], ids[i + 1])); found != ranks_.end() && (best == ids.size() || found->second.rank < merge.rank))
          best = i, merge = found->second;
      if (best == ids.size()) break;
      ids[best] = merge.merged, end.last_rank = merge.rank;
      ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    }
    end.tokens = ids.size();
    return end;
  }

 private:
  const Vocabulary& vocabulary_;
  std::unordered_map<std::uint64_t, Merge> ranks_;
  std::size_t count_ = 0;
};

/// How spaces become ▁ and where one is put in front: "" nowhere, "Prepend" in front of every text between added tokens, "always" (the same, but where it
/// begins with a space) and "first" (only where the input begins) as Metaspace does. Throws NotSupported for another normalizer and pre_tokenizer.
inline std::string space_prefix(const std::string& path, const Json& tokenizer, const GgufTokens& tokens) {
  constexpr const char* kind = "llama";
  const Json *const normalizer = tokenizer.get("normalizer"), *const pre = tokenizer.get("pre_tokenizer");
  const auto type_of = [](const Json* part) { return part && part->get("type") ? part->at("type").string() : std::string(); };
  const auto refused = [&] { return no_gguf_form(path, "the normalizer " + shown(normalizer) + " with the pre_tokenizer " + shown(pre), kind); };
  const std::string mark(space_mark);
  const auto text_is = [&](const Json& part, const char* key, const std::string& wanted) { return part.get(key) && *part.get(key) == Json(wanted); };

  std::vector<const Json*> steps;
  if (type_of(normalizer) == "Sequence")
    for (const Json& step : normalizer->at("normalizers").array()) steps.push_back(&step);
  else if (!type_of(normalizer).empty())
    steps.push_back(normalizer);
  if (steps.empty()) {
    if (type_of(pre) != "Metaspace" || (pre->get("replacement") && !text_is(*pre, "replacement", mark))) throw refused();
    const Component c(*pre, path, "pre_tokenizer");
    if (c.boolean("split", true))  // cuts in front of every ▁: the same only if no token reaches across
      for (std::size_t id = 0; id < tokens.texts.size(); id++)
        if (tokens.types[id] == gguf_normal && tokens.texts[id].find(mark, 1) != std::string::npos)
          throw no_gguf_form(path, "Metaspace with \"split\", which takes \"" + tokens.texts[id] + "\" apart,", kind);
    const std::string scheme = c.string("prepend_scheme", c.boolean("add_prefix_space", true) ? "always" : "never");
    return scheme == "never" ? "" : scheme;
  }
  const bool prepends = type_of(steps[0]) == "Prepend" && text_is(*steps[0], "prepend", mark);
  const std::size_t last = prepends ? 1 : 0;
  if (steps.size() != last + 1 || type_of(steps[last]) != "Replace" || !text_is(*steps[last], "content", mark) || !steps[last]->get("pattern") ||
      !text_is(steps[last]->at("pattern"), "String", " "))
    throw refused();
  // Gemma's cuts at spaces, of which none are left.
  const bool idle = type_of(pre) == "Split" && pre->get("pattern") && text_is(pre->at("pattern"), "String", " ");
  if (!type_of(pre).empty() && !idle) throw refused();
  return prepends ? "Prepend" : "";
}

/// Throws NotSupported unless the decoder makes spaces of ▁ and characters of bytes, and takes away the space that was put in front.
inline void check_piece_decoder(const std::string& path, const Json& tokenizer, bool prefix) {
  const Json* const decoder = tokenizer.get("decoder");
  const std::string mark(space_mark);
  Json wanted =
      Json::parse(R"([{"type": "Replace", "pattern": {"String": ")" + mark + R"("}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}])", path);
  if (prefix) wanted.push_back(Json::parse(R"({"type": "Strip", "content": " ", "start": 1, "stop": 0})", path));
  const auto same = [](const Json& step, const Json& other) {  // the order of keys does not matter
    return step.size() == other.size() &&
           std::ranges::all_of(other.object(), [&](const Json::Member& m) { return step.get(m.first) && *step.get(m.first) == m.second; });
  };
  const Json* const steps = decoder ? decoder->get("decoders") : nullptr;
  if (!steps || steps->size() != wanted.size() || !std::equal(steps->array().begin(), steps->array().end(), wanted.array().begin(), same))
    throw no_gguf_form(path, "the decoder " + shown(decoder) + (prefix ? "" : " without a space in front"), "llama");
}

/// Into the file: tokens, types, scores that order the merges, and where a space is put in front.
inline void write_gguf_pieces(GgufFileWriter& w, const std::string& path, const Json& tokenizer, const Vocabulary& vocabulary, GgufTokens tokens) {
  constexpr const char* kind = "llama";
  const Component model(tokenizer.at("model"), path, "model");
  if (!model.boolean("byte_fallback", false)) throw no_gguf_form(path, "a BPE that is neither byte-level nor has byte_fallback", kind);
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"})
    if (const std::string text = model.string(key, ""); !text.empty()) throw no_gguf_form(path, std::string(key) + " \"" + text + "\"", kind);
  if (model.boolean("ignore_merges", false)) throw no_gguf_form(path, "ignore_merges", kind);
  const std::string prefix = space_prefix(path, tokenizer, tokens);
  check_piece_decoder(path, tokenizer, !prefix.empty());

  const std::vector<std::int32_t> bytes = byte_tokens(vocabulary);
  if (std::ranges::count(bytes, -1) > 0) throw no_gguf_form(path, "byte_fallback without a token for each byte", kind);
  for (const std::int32_t id : bytes) tokens.types[static_cast<std::size_t>(id)] = gguf_byte;
  if (const std::int32_t id = vocabulary.id(model.string("unk_token", "")); id >= 0 && is_added(tokens.types[static_cast<std::size_t>(id)]))
    tokens.types[static_cast<std::size_t>(id)] = gguf_unknown;

  const ScoresOfMerges merges(model, vocabulary);
  tokens.scores.assign(tokens.texts.size(), -static_cast<float>(merges.count()));
  for (std::size_t id = 0; id < tokens.texts.size(); id++) {
    if (is_added(tokens.types[id])) continue;  // cut out of the text before anything is merged
    const std::string& token = tokens.texts[id];
    const ScoresOfMerges::End end = merges.run(token);
    if (tokens.types[id] == gguf_normal && !end.known) throw no_gguf_form(path, "the token \"" + token + "\", of which a character is no token,", kind);
    if (end.tokens == 2) throw no_gguf_form(path, "the token \"" + token + "\", which no merge makes of the two that it comes to,", kind);
    if (end.tokens == 1) tokens.scores[id] = -static_cast<float>(end.last_rank);
  }
  tokens.write(w, path, kind);
  w.text("tokenizer.ggml.pre", "default");
  w.boolean("tokenizer.ggml.add_space_prefix", !prefix.empty());
  if (!prefix.empty() && prefix != "Prepend") w.text(gguf_prepend_scheme, prefix);
}

}  // namespace peft::tokenizer::detail
