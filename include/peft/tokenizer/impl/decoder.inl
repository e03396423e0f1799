// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <utility>

#include "peft/tokenizer/decoder.hpp"
#include "peft/tokenizer/impl/component_json.inl"
#include "peft/tokenizer/impl/normalizer.inl"
#include "peft/tokenizer/unicode.hpp"

namespace peft::tokenizer {
namespace detail {

/// The byte that "<0xNN>" names, -1 for any other token.
inline int fallback_byte(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token.back() != '>') return -1;
  int value = 0;
  for (char c : token.substr(3, 2)) {
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    if (digit < 0) return -1;
    value = 16 * value + digit;
  }
  return value;
}

inline std::string concatenated(const std::vector<std::string>& tokens) {
  std::string whole;
  for (const std::string& token : tokens) whole += token;
  return whole;
}

}  // namespace detail

PEFT_INLINE void ByteLevelDecoder::apply(std::vector<std::string>& tokens) const {
  std::string bytes, own;
  for (const std::string& token : tokens) {
    own.clear();
    bool visible = true;
    for (std::size_t at = 0; visible && at < token.size();) {
      const unicode::Character character = unicode::decode(token, at);
      const int byte = unicode::visible_to_byte(character.value);
      visible = byte >= 0;
      own += static_cast<char>(static_cast<unsigned char>(byte));
      at += character.length;
    }
    bytes += visible ? own : token;
  }
  tokens.assign(1, unicode::to_valid(bytes));
}

PEFT_INLINE void ByteFallback::apply(std::vector<std::string>& tokens) const {
  std::vector<std::string> decoded;
  std::string bytes;
  const auto finish = [&] {
    if (unicode::is_valid(bytes)) {
      if (!bytes.empty()) decoded.push_back(bytes);
    } else {
      decoded.insert(decoded.end(), bytes.size(), "\xEF\xBF\xBD");
    }
    bytes.clear();
  };
  for (std::string& token : tokens) {
    if (const int byte = detail::fallback_byte(token); byte >= 0) {
      bytes += static_cast<char>(static_cast<unsigned char>(byte));
      continue;
    }
    finish();
    decoded.push_back(std::move(token));
  }
  finish();
  tokens.swap(decoded);
}

PEFT_INLINE void Fuse::apply(std::vector<std::string>& tokens) const { tokens.assign(1, detail::concatenated(tokens)); }

PEFT_INLINE void StripDecoder::apply(std::vector<std::string>& tokens) const {
  if (content_.empty()) return;
  for (std::string& token : tokens) {
    std::string_view rest = token;
    for (std::size_t i = 0; i < start_ && rest.starts_with(content_); i++) rest.remove_prefix(content_.size());
    for (std::size_t i = 0; i < stop_ && rest.ends_with(content_); i++) rest.remove_suffix(content_.size());
    token = std::string(rest);
  }
}

PEFT_INLINE void ReplaceDecoder::apply(std::vector<std::string>& tokens) const {
  for (std::string& token : tokens) token = detail::replaced(token, pattern_, content_);
}

PEFT_INLINE void MetaspaceDecoder::apply(std::vector<std::string>& tokens) const {
  const Pattern mark = Pattern::literal(replacement_);
  for (std::size_t i = 0; i < tokens.size(); i++) tokens[i] = detail::replaced(tokens[i], mark, i == 0 && prepended_ ? "" : " ");
}

namespace detail {
inline void clean_up(std::string& token) {
  static const std::pair<Pattern, std::string_view> cleaner[] = {
      {Pattern::literal(" ."), "."},   {Pattern::literal(" ?"), "?"},     {Pattern::literal(" !"), "!"},    {Pattern::literal(" ,"), ","},
      {Pattern::literal(" ' "), "'"},  {Pattern::literal(" n't"), "n't"}, {Pattern::literal(" 'm"), "'m"},  {Pattern::literal(" do not"), " don't"},
      {Pattern::literal(" 's"), "'s"}, {Pattern::literal(" 've"), "'ve"}, {Pattern::literal(" 're"), "'re"}};
  for (const auto& [from, to] : cleaner) token = replaced(token, from, to);
}
}  // namespace detail

PEFT_INLINE void WordPieceDecoder::apply(std::vector<std::string>& tokens) const {
  for (std::size_t i = 0; i < tokens.size(); i++) {
    std::string& token = tokens[i];
    if (i > 0) {
      if (token.starts_with(prefix_))
        token.erase(0, prefix_.size());
      else
        token.insert(0, 1, ' ');
    }
    if (cleanup_) detail::clean_up(token);
  }
}

PEFT_INLINE void CtcDecoder::apply(std::vector<std::string>& tokens) const {
  tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
  for (std::string& token : tokens) {
    token = detail::replaced(token, pad_, "");
    if (!cleanup_) continue;
    detail::clean_up(token);
    token = detail::replaced(token, delimiter_, " ");
  }
  std::erase(tokens, "");
}

PEFT_INLINE void BpeDecoder::apply(std::vector<std::string>& tokens) const {
  const Pattern suffix = Pattern::literal(suffix_);
  for (std::size_t i = 0; i < tokens.size(); i++) tokens[i] = detail::replaced(tokens[i], suffix, i + 1 < tokens.size() ? " " : "");
}

namespace detail {

inline DecoderPtr decoder_of(const Json& json, std::string_view path, int depth) {
  if (json.is_null()) return nullptr;
  Component c(json, path, "decoder");
  const std::string type = c.type();
  if (type == "Sequence") return std::make_unique<DecoderSequence>(make_steps<DecoderPtr>(c, "decoders", decoder_of, depth));
  if (type == "ByteLevel") return std::make_unique<ByteLevelDecoder>();
  if (type == "ByteFallback") return std::make_unique<ByteFallback>();
  if (type == "Fuse") return std::make_unique<Fuse>();
  if (type == "Strip") {
    const auto start = static_cast<std::size_t>(c.integer("start", 0, 1 << 20)), stop = static_cast<std::size_t>(c.integer("stop", 0, 1 << 20));
    return std::make_unique<StripDecoder>(c.string("content"), start, stop);
  }
  if (type == "Replace") return std::make_unique<ReplaceDecoder>(c.pattern("pattern"), c.string("content"));
  if (type == "Metaspace") {
    const bool prepended = c.string("prepend_scheme", c.boolean("add_prefix_space", true) ? "always" : "never") != "never";
    return std::make_unique<MetaspaceDecoder>(c.string("replacement", "\xE2\x96\x81"), prepended);
  }
  if (type == "WordPiece") return std::make_unique<WordPieceDecoder>(c.string("prefix", "##"), c.boolean("cleanup", true));
  if (type == "BPEDecoder") return std::make_unique<BpeDecoder>(c.string("suffix", "</w>"));
  if (type == "CTC") return std::make_unique<CtcDecoder>(c.string("pad_token", "<pad>"), c.string("word_delimiter_token", "|"), c.boolean("cleanup", true));
  throw c.unknown({"Sequence", "ByteLevel", "ByteFallback", "Fuse", "Strip", "Replace", "Metaspace", "WordPiece", "BPEDecoder", "CTC"});
}

}  // namespace detail

PEFT_INLINE DecoderPtr make_decoder(const Json& json, std::string_view path) { return detail::decoder_of(json, path, 0); }

}  // namespace peft::tokenizer
