// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "peft/tokenizer/impl/component_json.inl"
#include "peft/tokenizer/normalizer.hpp"

namespace peft::tokenizer {
namespace detail {

/// `text` with every match replaced.
inline std::string replaced(std::string_view text, const Pattern& pattern, std::string_view content) {
  std::string result;
  std::size_t done = 0;
  for (std::size_t begin = 0, end = 0; pattern.find(text, done, begin, end); done = end) {
    result.append(text.substr(done, begin - done));
    result.append(content);
  }
  result.append(text.substr(done));
  return result;
}

}  // namespace detail

PEFT_INLINE void Replace::apply(std::string& text) const {
  std::size_t begin = 0, end = 0;
  if (pattern_.find(text, 0, begin, end)) text = detail::replaced(text, pattern_, content_);
}

PEFT_INLINE void Strip::apply(std::string& text) const {
  std::size_t begin = 0, end = text.size();
  while (left_ && begin < end) {
    const unicode::Character first = unicode::decode(text, begin);
    if (!unicode::is(first.value, unicode::space)) break;
    begin += first.length;
  }
  while (right_ && end > begin) {
    const unicode::Character last = unicode::decode_before(text, end);
    if (!unicode::is(last.value, unicode::space)) break;
    end -= last.length;
  }
  text = text.substr(begin, end - begin);
}

PEFT_INLINE void StripAccents::apply(std::string& text) const {
  std::string kept;
  for (std::size_t at = 0; at < text.size();) {
    const unicode::Character character = unicode::decode(text, at);
    if (!unicode::is(character.value, unicode::mark)) kept.append(text, at, character.length);
    at += character.length;
  }
  text = std::move(kept);
}

PEFT_INLINE void ByteLevelNormalizer::apply(std::string& text) const {
  std::string visible;
  for (char byte : text) visible += unicode::byte_to_visible(static_cast<unsigned char>(byte));
  text = std::move(visible);
}

namespace detail {

inline NormalizerPtr normalizer_of(const Json& json, std::string_view path, int depth) {
  if (json.is_null()) return nullptr;
  Component c(json, path, "normalizer");
  const std::string type = c.type();
  if (type == "Sequence") return std::make_unique<NormalizerSequence>(make_steps<NormalizerPtr>(c, "normalizers", normalizer_of, depth));
  if (type == "NFC") return std::make_unique<UnicodeForm>(unicode::Form::nfc);
  if (type == "NFD") return std::make_unique<UnicodeForm>(unicode::Form::nfd);
  if (type == "NFKC") return std::make_unique<UnicodeForm>(unicode::Form::nfkc);
  if (type == "NFKD") return std::make_unique<UnicodeForm>(unicode::Form::nfkd);
  if (type == "Lowercase") return std::make_unique<Lowercase>();
  if (type == "Prepend") return std::make_unique<Prepend>(c.string("prepend"));
  if (type == "Replace") return std::make_unique<Replace>(c.pattern("pattern"), c.string("content"));
  if (type == "Strip") return std::make_unique<Strip>(c.boolean("strip_left", true), c.boolean("strip_right", true));
  if (type == "StripAccents") return std::make_unique<StripAccents>();
  if (type == "ByteLevel") return std::make_unique<ByteLevelNormalizer>();
  throw c.unknown({"Sequence", "NFC", "NFD", "NFKC", "NFKD", "Lowercase", "Prepend", "Replace", "Strip", "StripAccents", "ByteLevel"});
}

}  // namespace detail

PEFT_INLINE NormalizerPtr make_normalizer(const Json& json, std::string_view path) { return detail::normalizer_of(json, path, 0); }

}  // namespace peft::tokenizer
