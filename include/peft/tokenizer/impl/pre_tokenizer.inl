// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>

#include "peft/tokenizer/impl/component_json.inl"
#include "peft/tokenizer/impl/scripts.inl"
#include "peft/tokenizer/pre_tokenizer.hpp"
#include "peft/tokenizer/unicode.hpp"

namespace peft::tokenizer {

PEFT_INLINE void Split::apply(Pieces& pieces) const {
  struct Stretch {
    Pieces::Span span;
    bool match;
  };
  std::vector<Pieces::Span>& cut = pieces.spare_spans;
  std::vector<Stretch> parts;
  cut.clear();
  for (std::size_t i = 0; i < pieces.spans.size(); i++) {
    const Pieces::Span whole = pieces.spans[i];
    const std::string_view text = pieces[i];
    std::size_t done = 0, begin = 0, end = 0;
    if (behavior_ == SplitBehavior::isolated) {  // matches or not, all parts stay as they are
      for (; pattern_.find(text, done, begin, end); done = end) {
        if (begin > done) cut.push_back({whole.begin + done, whole.begin + begin});
        cut.push_back({whole.begin + begin, whole.begin + end});
      }
      if (done < text.size()) cut.push_back({whole.begin + done, whole.end});
      continue;
    }
    parts.clear();
    for (; pattern_.find(text, done, begin, end); done = end) {
      if (begin > done) parts.push_back({{whole.begin + done, whole.begin + begin}, invert_});
      parts.push_back({{whole.begin + begin, whole.begin + end}, !invert_});
    }
    if (done < text.size()) parts.push_back({{whole.begin + done, whole.end}, invert_});
    const std::size_t first = cut.size();
    bool previous = false;  // whether the last part was a match: a match joins a neighbour that is none
    if (behavior_ == SplitBehavior::merged_with_next) {
      for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
        if (part->match && !previous && cut.size() > first)
          cut.back().begin = part->span.begin;
        else
          cut.push_back(part->span);
        previous = part->match;
      }
      std::reverse(cut.begin() + static_cast<std::ptrdiff_t>(first), cut.end());
      continue;
    }
    for (const Stretch& part : parts) {
      const bool joins = behavior_ == SplitBehavior::contiguous             ? part.match == previous
                         : behavior_ == SplitBehavior::merged_with_previous ? part.match && !previous
                                                                            : false;
      if (joins && cut.size() > first)
        cut.back().end = part.span.end;
      else if (behavior_ != SplitBehavior::removed || !part.match)
        cut.push_back(part.span);
      previous = part.match;
    }
  }
  pieces.spans.swap(cut);
}

PEFT_INLINE ByteLevel::ByteLevel(bool add_prefix_space, bool use_regex)
    : add_prefix_space_(add_prefix_space),
      use_regex_(use_regex),
      words_(Pattern::regex(R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)", "ByteLevel"), SplitBehavior::isolated) {}

PEFT_INLINE void ByteLevel::apply(Pieces& pieces) const {
  if (add_prefix_space_) {
    Rewriter out(pieces);
    for (Pieces::Span& span : pieces.spans) {
      const std::size_t begin = out.size();
      if (pieces.text[span.begin] != ' ') out.put(" ", span.begin);
      out.keep(span.begin, span.end);
      span = {begin, out.size()};
    }
    out.finish();
  }
  if (use_regex_) words_.apply(pieces);
  Rewriter out(pieces);
  for (Pieces::Span& span : pieces.spans) {
    const std::size_t begin = out.size();
    for (std::size_t at = span.begin; at < span.end; at++) out.put(unicode::byte_to_visible(static_cast<unsigned char>(pieces.text[at])), at);
    span = {begin, out.size()};
  }
  out.finish();
}

PEFT_INLINE Metaspace::Metaspace(std::string replacement, PrependScheme prepend, bool split)
    : replacement_(replacement), prepend_(prepend), split_(split), words_(Pattern::literal(std::move(replacement)), SplitBehavior::merged_with_next) {}

PEFT_INLINE void Metaspace::apply(Pieces& pieces) const {
  Rewriter out(pieces);
  for (std::size_t i = 0; i < pieces.spans.size(); i++) {
    const Pieces::Span span = pieces.spans[i];
    const std::string_view piece = pieces[i];
    const std::size_t begin = out.size();
    // Where an earlier step has dropped the beginning, no piece begins the input.
    const bool prepend = prepend_ == PrependScheme::always || (prepend_ == PrependScheme::first && span.begin == 0 && pieces.at_start);
    if (prepend && !piece.starts_with(replacement_) && piece.front() != ' ') out.put(replacement_, span.begin);
    for (std::size_t at = span.begin; at < span.end;) {
      const std::size_t space = std::min(piece.find(' ', at - span.begin), piece.size()) + span.begin;
      out.keep(at, space);
      if (space < span.end) out.put(replacement_, space);
      at = space + 1;
    }
    pieces.spans[i] = {begin, out.size()};
  }
  out.finish();
  if (split_) words_.apply(pieces);
}

PEFT_INLINE void UnicodeScripts::apply(Pieces& pieces) const {
  std::vector<Pieces::Span>& cut = pieces.spare_spans;
  cut.clear();
  for (std::size_t i = 0; i < pieces.spans.size(); i++) {
    const Pieces::Span whole = pieces.spans[i];
    const std::string_view text = pieces[i];
    const std::size_t before = cut.size();
    std::uint8_t last = 0;
    for (std::size_t at = 0; at < text.size();) {
      const unicode::Character c = unicode::decode(text, at);
      if (const std::uint8_t script = unicode::detail::script_of(c.value); script != 0 && script != last) {
        if (cut.size() > before) cut.back().end = whole.begin + at;
        cut.push_back({whole.begin + at, whole.end});
        last = script;
      }
      at += c.length;
    }
  }
  pieces.spans.swap(cut);
}

namespace detail {

inline SplitBehavior split_behavior(const Component& c, const std::string& name) {
  if (name == "Isolated") return SplitBehavior::isolated;
  if (name == "Removed") return SplitBehavior::removed;
  if (name == "MergedWithPrevious") return SplitBehavior::merged_with_previous;
  if (name == "MergedWithNext") return SplitBehavior::merged_with_next;
  if (name == "Contiguous") return SplitBehavior::contiguous;
  const std::vector<std::string> known = {"Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
  throw c.error("behavior \"" + name + "\" is unknown" + did_you_mean(name, known, "there are"));
}

/// "prepend_scheme", or "add_prefix_space" as older files have it.
inline PrependScheme prepend_scheme(const Component& c) {
  const std::string name = c.string("prepend_scheme", c.boolean("add_prefix_space", true) ? "always" : "never");
  if (name == "always") return PrependScheme::always;
  if (name == "first") return PrependScheme::first;
  if (name == "never") return PrependScheme::never;
  const std::vector<std::string> known = {"always", "first", "never"};
  throw c.error("prepend_scheme \"" + name + "\" is unknown" + did_you_mean(name, known, "there are"));
}

inline PreTokenizerPtr pre_tokenizer_of(const Json& json, std::string_view path, int depth) {
  if (json.is_null()) return nullptr;
  Component c(json, path, "pre_tokenizer");
  const std::string type = c.type();
  if (type == "Sequence") return std::make_unique<PreTokenizerSequence>(make_steps<PreTokenizerPtr>(c, "pretokenizers", pre_tokenizer_of, depth));
  if (type == "ByteLevel") return std::make_unique<ByteLevel>(c.boolean("add_prefix_space", true), c.boolean("use_regex", true));
  if (type == "Split") return std::make_unique<Split>(c.pattern("pattern"), split_behavior(c, c.string("behavior")), c.boolean("invert", false));
  if (type == "Digits")
    return std::make_unique<Split>(Pattern::regex("\\p{N}", path), c.boolean("individual_digits", false) ? SplitBehavior::isolated : SplitBehavior::contiguous);
  if (type == "Whitespace") return std::make_unique<Split>(Pattern::words(), SplitBehavior::removed, true);
  if (type == "WhitespaceSplit") return std::make_unique<Split>(Pattern::regex("\\s", path), SplitBehavior::removed);
  if (type == "CharDelimiterSplit") return std::make_unique<Split>(Pattern::literal(c.string("delimiter")), SplitBehavior::removed);
  if (type == "Metaspace") return std::make_unique<Metaspace>(c.string("replacement", "\xE2\x96\x81"), prepend_scheme(c), c.boolean("split", true));
  if (type == "Punctuation") return std::make_unique<Split>(Pattern::punctuation(), split_behavior(c, c.string("behavior", "Isolated")));
  if (type == "FixedLength")
    return std::make_unique<Split>(Pattern::chunks(static_cast<std::size_t>(c.find("length") ? c.integer("length", 1, 1 << 30) : 5)), SplitBehavior::isolated);
  if (type == "UnicodeScripts") return std::make_unique<UnicodeScripts>();
  if (type == "BertPreTokenizer") {
    std::vector<PreTokenizerPtr> steps;
    steps.push_back(std::make_unique<Split>(Pattern::regex("\\s", path), SplitBehavior::removed));
    steps.push_back(std::make_unique<Split>(Pattern::punctuation(), SplitBehavior::isolated));
    return std::make_unique<PreTokenizerSequence>(std::move(steps));
  }
  throw c.unknown({"Sequence", "ByteLevel", "Split", "Digits", "Whitespace", "WhitespaceSplit", "CharDelimiterSplit", "Metaspace", "Punctuation", "FixedLength",
                   "BertPreTokenizer", "UnicodeScripts"});
}

}  // namespace detail

PEFT_INLINE PreTokenizerPtr make_pre_tokenizer(const Json& json, std::string_view path) { return detail::pre_tokenizer_of(json, path, 0); }

}  // namespace peft::tokenizer
