// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <utf8proc.h>

#include <algorithm>

#include "peft/core/error.hpp"
#include "peft/tokenizer/impl/base64.inl"
#include "peft/tokenizer/impl/component_json.inl"
#include "peft/tokenizer/normalizer.hpp"

namespace peft::tokenizer {
namespace detail {

/// Replaces every match; what is new comes from the last character of the match.
inline void replace_matches(AlignedText& text, const Pattern& pattern, std::string_view content) {
  std::size_t begin = 0, end = 0;
  if (!pattern.find(text.text, 0, begin, end)) return;
  Rewriter out(text);
  std::size_t done = 0;
  do {
    out.keep(done, begin);
    out.put(content, end - 1);
    done = end;
  } while (pattern.find(out.old(), done, begin, end));
  out.keep(done, out.old().size());
  out.finish();
}

inline std::string replaced(std::string_view text, const Pattern& pattern, std::string_view content) {
  AlignedText aligned(text);
  replace_matches(aligned, pattern, content);
  return aligned.text;
}

/// Calls each(character, begin, length) for all characters; what `each` writes is the new text.
template <class Each>
void rewrite_characters(AlignedText& text, Each each) {
  Rewriter out(text);
  const std::string_view old = out.old();
  for (std::size_t at = 0; at < old.size();) {
    const unicode::Character character = unicode::decode(old, at);
    each(out, character.value, at, at + character.length);
    at += character.length;
  }
  out.finish();
}

inline bool is_ascii(std::string_view text) {
  unsigned char all = 0;
  for (char c : text) all |= static_cast<unsigned char>(c);
  return all < 0x80;
}

inline void to_form(AlignedText& text, unicode::Form form) {
  if (is_ascii(text.text)) return;
  if (!text.aligned) {
    text.text = unicode::normalize(text.text, form);
    return;
  }
  std::vector<std::size_t> from;
  const std::string normalized = unicode::normalize(text.text, form, from);
  Rewriter out(text);
  std::size_t i = 0;
  for (std::size_t at = 0; at < normalized.size();) {
    const std::size_t length = unicode::decode(normalized, at).length;
    out.put(std::string_view(normalized).substr(at, length), from[i++]);
    at += length;
  }
  out.finish();
}

inline void to_lowercase(AlignedText& text) {
  std::string lower;
  rewrite_characters(text, [&lower](Rewriter& out, char32_t c, std::size_t begin, std::size_t) {
    lower.clear();
    unicode::append_lowercase(lower, c);
    out.put(lower, begin);
  });
}

}  // namespace detail

PEFT_INLINE void UnicodeForm::apply(AlignedText& text) const { detail::to_form(text, form_); }

PEFT_INLINE void Lowercase::apply(AlignedText& text) const { detail::to_lowercase(text); }

PEFT_INLINE void Prepend::apply(AlignedText& text) const {
  if (text.text.empty()) return;
  Rewriter out(text);
  out.put(prefix_, 0);
  out.keep(0, out.old().size());
  out.finish();
}

PEFT_INLINE void Replace::apply(AlignedText& text) const { detail::replace_matches(text, pattern_, content_); }

PEFT_INLINE void Strip::apply(AlignedText& text) const {
  std::size_t begin = 0, end = text.text.size();
  while (left_ && begin < end) {
    const unicode::Character first = unicode::decode(text.text, begin);
    if (!unicode::is(first.value, unicode::space)) break;
    begin += first.length;
  }
  while (right_ && end > begin) {
    const unicode::Character last = unicode::decode_before(text.text, end);
    if (!unicode::is(last.value, unicode::space)) break;
    end -= last.length;
  }
  if (begin == 0 && end == text.text.size()) return;
  Rewriter out(text);
  out.keep(begin, end);
  out.finish();
}

PEFT_INLINE void StripAccents::apply(AlignedText& text) const {
  detail::rewrite_characters(text, [](Rewriter& out, char32_t c, std::size_t begin, std::size_t end) {
    if (!unicode::is_combining_mark(c)) out.keep(begin, end);
  });
}

PEFT_INLINE void ByteLevelNormalizer::apply(AlignedText& text) const {
  Rewriter out(text);
  const std::string_view old = out.old();
  for (std::size_t at = 0; at < old.size(); at++) out.put(unicode::byte_to_visible(static_cast<unsigned char>(old[at])), at);
  out.finish();
}

PEFT_INLINE void BertNormalizer::apply(AlignedText& text) const {
  // The blocks of ideographs that BERT was made with.
  const auto is_chinese = [](char32_t c) {
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B73F) ||
           (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) || (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
  };
  if (options_.clean_text)
    detail::rewrite_characters(text, [](Rewriter& out, char32_t c, std::size_t begin, std::size_t end) {
      if (c == 0 || c == 0xFFFD || unicode::is_bert_control(c)) return;
      if (unicode::is(c, unicode::space))
        out.put(" ", begin);
      else
        out.keep(begin, end);
    });
  const bool ascii = detail::is_ascii(text.text);
  if (options_.handle_chinese_chars && !ascii)
    detail::rewrite_characters(text, [&](Rewriter& out, char32_t c, std::size_t begin, std::size_t end) {
      const bool chinese = is_chinese(c);
      if (chinese) out.put(" ", begin);
      out.keep(begin, end);
      if (chinese) out.put(" ", begin);
    });
  if (options_.strip_accents && !ascii) {
    detail::to_form(text, unicode::Form::nfd);
    detail::rewrite_characters(text, [](Rewriter& out, char32_t c, std::size_t begin, std::size_t end) {
      if (!unicode::is_bert_accent(c)) out.keep(begin, end);
    });
  }
  if (options_.lowercase) detail::to_lowercase(text);
}

PEFT_INLINE void Nmt::apply(AlignedText& text) const {
  detail::rewrite_characters(text, [](Rewriter& out, char32_t c, std::size_t begin, std::size_t end) {
    if ((c >= 0x1 && c <= 0x8) || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F || c == 0x8F || c == 0x9F) return;
    if (c == 0x9 || c == 0xA || c == 0xC || c == 0xD || c == 0x1680 || (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 || c == 0x2581 ||
        c == 0xFEFF || c == 0xFFFD)
      out.put(" ", begin);
    else
      out.keep(begin, end);
  });
}

namespace detail {

/// The end of the grapheme that begins at `at`.
inline std::size_t grapheme_end(std::string_view text, std::size_t at) {
  unicode::Character before = unicode::decode(text, at);
  std::size_t end = at + before.length;
  utf8proc_int32_t state = 0;
  while (end < text.size()) {
    const unicode::Character next = unicode::decode(text, end);
    if (before.value < 0x80 && next.value < 0x80 && !(before.value == '\r' && next.value == '\n')) break;
    if (utf8proc_grapheme_break_stateful(static_cast<utf8proc_int32_t>(before.value), static_cast<utf8proc_int32_t>(next.value), &state)) break;
    end += next.length;
    before = next;
  }
  return end;
}

inline std::size_t count_characters(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

}  // namespace detail

PEFT_INLINE void Precompiled::apply(AlignedText& text) const {
  // Of each new character how many old ones it adds (1) or takes away (below 0) besides its own. Characters that are dropped in front of the first
  // one that stays are not counted, as in tokenizers: what follows has then the offsets of earlier characters.
  std::vector<std::int64_t> changes;
  std::string result;
  const std::string_view old = text.text;
  const auto replace = [&](std::size_t from, std::string_view with) {
    result += with;
    const auto added = static_cast<std::int64_t>(detail::count_characters(with));
    const std::int64_t more = added - static_cast<std::int64_t>(from);
    changes.insert(changes.end(), static_cast<std::size_t>(added), 0);
    for (std::int64_t i = 0; i < more; i++) changes[changes.size() - 1 - static_cast<std::size_t>(i)] = 1;
    if (more < 0 && !changes.empty()) changes.back() += more;
  };
  for (std::size_t at = 0; at < old.size();) {
    const std::size_t end = detail::grapheme_end(old, at);
    const CharacterMap::Match whole = end - at < 6 ? map_.shortest(old.substr(at, end - at)) : CharacterMap::Match{0, {}};
    if (whole.length > 0) {
      replace(detail::count_characters(old.substr(at, end - at)), whole.replacement);
      at = end;
    }
    while (at < end) {
      const std::string_view character = old.substr(at, unicode::decode(old, at).length);
      const CharacterMap::Match match = map_.shortest(character);
      replace(1, match.length > 0 ? match.replacement : character);
      at += character.size();
    }
  }
  if (!text.aligned) {
    text.text.swap(result);
    return;
  }
  std::vector<std::size_t> starts;
  for (std::size_t at = 0; at < old.size(); at += unicode::decode(old, at).length) starts.push_back(at);
  Rewriter out(text);
  std::size_t at = 0, next = 0;
  for (const std::int64_t change : changes) {
    const std::size_t length = unicode::decode(result, at).length, place = change > 0 && next > 0 ? next - 1 : next;
    out.put(std::string_view(result).substr(at, length), starts[std::min(place, starts.size() - 1)]);
    at += length;
    if (change <= 0) next += static_cast<std::size_t>(1 - change);
  }
  out.finish();
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
  if (type == "Nmt") return std::make_unique<Nmt>();
  if (type == "BertNormalizer") {
    BertNormalizer::Options options{.clean_text = c.boolean("clean_text", true),
                                    .handle_chinese_chars = c.boolean("handle_chinese_chars", true),
                                    .strip_accents = true,
                                    .lowercase = c.boolean("lowercase", true)};
    options.strip_accents = c.boolean("strip_accents", options.lowercase);
    return std::make_unique<BertNormalizer>(options);
  }
  if (type == "Precompiled") {
    const std::string text = c.string("precompiled_charsmap");
    const auto blob = from_base64(text);
    if (!blob) throw c.error("\"precompiled_charsmap\" is not base64");
    try {
      return std::make_unique<Precompiled>(CharacterMap(*blob));
    } catch (const Error& e) {
      throw c.error(e.what());
    }
  }
  throw c.unknown({"Sequence", "NFC", "NFD", "NFKC", "NFKD", "Lowercase", "Prepend", "Replace", "Strip", "StripAccents", "ByteLevel", "Nmt", "BertNormalizer",
                   "Precompiled"});
}

}  // namespace detail

PEFT_INLINE NormalizerPtr make_normalizer(const Json& json, std::string_view path) { return detail::normalizer_of(json, path, 0); }

}  // namespace peft::tokenizer
